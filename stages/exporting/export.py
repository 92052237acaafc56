"""An export appears whole or not at all: a folder with the rows, a card, Croissant and attributions.

It is written beside its place under a temporary name and renamed at the end, as shards are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from pipeline import atomic, ids
from pipeline.dataset import Dataset
from pipeline.errors import ConfigError, StoreError
from pipeline.libraries import needed
from pipeline.sentences import nearest
from pipeline.stage import Field
from stages import FORMATS
from stages.exporting.attributions import write_attributions
from stages.exporting.card import FILE as CARD
from stages.exporting.card import card, summary
from stages.exporting.contract import ATTRIBUTED, COLUMNS, Format, Given, is_picture
from stages.exporting.croissant import Publication, file_object, metadata

CROISSANT = "croissant.json"
ENDINGS = (".npz", ".parquet", ".tar", ".zip", ".png", ".csv")


def form_of(name: str) -> Format:
    """The format of a name in `stages.FORMATS`. Raises ConfigError where there is none."""
    if name not in FORMATS:
        raise ConfigError(f"--to is '{name}', which is no format{nearest(name, FORMATS)}")
    form: Format = import_module(FORMATS[name]).FORMAT
    return form


def check_place(out: Path) -> None:
    """Raises ConfigError where no folder can appear, in one sentence."""
    if out.suffix.lower() in ENDINGS:
        raise ConfigError(f"--out is {out}, but an export is a folder with its card beside the data; name a folder")
    if os.path.lexists(out):
        raise ConfigError(f"--out is {out}, which exists; name a new folder, or remove that one first")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(out.parent, os.W_OK | os.X_OK) else "you have no permission to write"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ConfigError(f"--out is {out}, but nothing can be written in {out.parent} ({reason}); name another place")


def chosen_fields(rows: Dataset, node: str, to: str, form: Format, asked: Sequence[str]) -> dict[str, Field]:
    """The fields that are exported. Raises ConfigError for one that is not there, or that the format does not take."""
    fields = rows.fields
    for name in asked:
        if name not in fields:
            raise ConfigError(f"--field is '{name}', which not all rows of {node} have{nearest(name, fields)}")
    chosen = {name: fields[name] for name in fields if not asked or name in asked}
    if not chosen:
        raise ConfigError(f"the rows of {node} have no common field; name one instance, such as {node}[...]")
    taken = sorted(set(chosen) & {*COLUMNS, *ATTRIBUTED})
    if taken:
        raise ConfigError(f"{node} has a field called '{taken[0]}', as a column is; choose others with --field")
    if not form.pictures:
        return chosen
    pictures = {name: field for name, field in chosen.items() if is_picture(field)}
    if len(pictures) == 1 and not (asked and len(chosen) > 1):
        return pictures
    found = ", ".join(chosen) if not pictures or asked else f"several, {', '.join(pictures)}; name one with --field"
    raise ConfigError(
        f"--to {to} takes one field of 8-bit pictures, and {node} has {found}; npz and parquet take all fields"
    )


def export(
    rows: Dataset,
    node: str,
    to: str,
    out: Path,
    fields: Sequence[str] = (),
    where: str = "",
    seed: int = 0,
    publication: Publication = Publication(),  # noqa: B008
    report: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """Write the rows as a new folder `out`; returns sentences on what is in it.

    rows: as `pipeline.open` gives them; report: called with how many more rows are done. Raises ConfigError before
    anything is written where something is asked that cannot be, StoreError where the writing fails: nothing is left.
    """
    form = form_of(to)
    check_place(out)
    if form.needs[0]:
        needed(*form.needs, f"exports to {to}")
    if not len(rows):
        raise ConfigError(f"no row of {node} is chosen; leave --where out, or correct it")
    chosen = chosen_fields(rows, node, to, form, fields)
    if form.pictures and len(ids.unique(rows.ids)) < len(rows):
        raise ConfigError(
            f"several rows of {node} have one id, which names their files; name one instance of it, such as {node}[...]"
        )
    given = Given(node, where, rows, chosen, seed)
    atomic.remove_left_over([out.parent])
    draft = atomic.temporary(out)
    try:
        draft.mkdir()
        licences = _fill(given, form, draft, publication, report)
        atomic.flush_tree(draft)
        if os.path.lexists(out):
            raise StoreError(f"{out} has appeared while the export was written; name another folder")
        draft.rename(out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror or error}; nothing is left of it") from None
    finally:
        if draft.exists():
            atomic.remove(draft)
    atomic.flush(out.parent)
    left = [name for name in rows.fields if name not in chosen] if not fields else []
    return _told(given, out, to, licences, left, publication)


def _fill(
    given: Given, form: Format, folder: Path, publication: Publication, report: Callable[[int], None]
) -> Mapping[str, int]:
    """All files; returns licence -> number of rows."""
    cells, shown = 0, 0
    for more in form.write(given, folder):
        cells += more
        report(cells // len(given.fields) - shown)
        shown = cells // len(given.fields)
    licences = write_attributions(given, folder)
    (folder / CARD).write_text(card(given, form, licences), encoding="utf-8")
    distribution, record_sets = form.describe(given, folder)
    own = [
        file_object("ATTRIBUTION.csv", "text/csv", "licence, author and address of each row"),
        file_object(CARD, "text/markdown", "what the rows are and how they came to be"),
    ]
    about = metadata(given, folder, summary(given), list(licences), publication, [*distribution, *own], record_sets)
    atomic.write_json(folder / CROISSANT, about)
    return licences


def _told(
    given: Given, out: Path, to: str, licences: Mapping[str, int], left: Sequence[str], publication: Publication
) -> list[str]:
    names = ", ".join(f"{name} {count:,}" for name, count in licences.items())
    told = [f"{out}: {summary(given)}", f"licences: {names} (ATTRIBUTION.csv)"]
    if left:
        told.append(f"left out: {', '.join(left)}, which --to {to} does not take; npz and parquet do")
    if publication.lacking:
        options = ", ".join(f"--{name}" for name in publication.lacking)
        told.append(f"before you publish it: {CROISSANT} asks for {options}")
    return told
