"""What a section of the report is: what it reads, where it stands, and how it is printed.

Each section is a module of this room that says so as `SECTION`, and a line in `stages.SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.stage import Artifact, Input, Rows

Results = Mapping[str, Any]
"""`results.json` of an evaluation."""


STATES = ("bad", "amber", "good", "")
"""States of verdicts, in the order in which they stand in the page's head."""


@dataclass(frozen=True)
class Tile:
    """A verdict in the page's head.

    name    what it is of; value: the verdict in a word or a number; about: who and where, in small print
    anchor  id of the section that says more
    state   one of `STATES`; "" is neither good nor bad
    """

    name: str
    value: str
    about: str
    anchor: str
    state: str = ""


@dataclass(frozen=True)
class Given:
    """What a report was given.

    config       its settings (`ReportConfig`)
    evaluations  results of the evaluations, in the order of the pipeline file; places: their folders
    artifacts    input -> artifacts; nothing for inputs that were not given
    rows         input -> dataset; nothing for inputs that were not given
    facts        plain data for artifact.json, to which sections add
    tiles        verdicts for the page's head, to which sections add
    files        setting -> the file that it names
    """

    config: Any
    evaluations: Sequence[Results]
    places: Sequence[Path]
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)
    rows: Mapping[str, Rows] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    tiles: list[Tile] = field(default_factory=list)
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """One part of the page.

    title     heading
    order     sections stand by this number; no two have the same
    template  Jinja text that prints the content; `figure(picture, alt, caption)` prints a picture. No style attribute
              and no script: the page's security policy refuses both
    content   what was given -> variables of the template; an empty mapping where there is nothing to show
    link      words of the link in the page's head; "": none
    inputs    inputs of `report` that it reads; sections that read the same one declare it alike
    fields    input of rows -> fields of which it shows or measures one
    """

    title: str
    order: int
    template: str
    content: Callable[[Given], Mapping[str, Any]]
    link: str = ""
    inputs: Mapping[str, Input] = field(default_factory=dict)
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


IMAGES = Input(
    "rows",
    required=False,
    description="all 'equalize' nodes that evaluated rows pass: reductions are audited, samples shown",
)
