"""The page on the sources of this project, made from experiments/seeds.yaml and the results of the twins: `python -m`
prints it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.twins import TWINS, made_with

ROOT = Path(__file__).parents[1]
ROWS, RESULTS = ROOT / "experiments" / "seeds.yaml", ROOT / "experiments" / "results"

HEAD = """\
# The sources, row by row

Made by `make pages`.

Every table, figure and claim of the four sources: the config that computes it on the data of the paper, what its
twin says here, what was published, and what a full run needs. A twin is the same experiment on small photographs
and small generators ([configs](configs.md)): it shows that the experiment runs, and what it says of pictures of 64
pixels reproduces nothing. A number is the difference of the claim's metric between its two sides (the second may be
a number of the paper), with its 95 % interval over groups."""


OLDER = """
Twins with a dagger (†) were run with earlier generators than those in `manifests/generators.yaml` today: {names}."""


def page() -> str:
    """Markdown."""
    twins = json.loads((RESULTS / "twins.json").read_text(encoding="utf-8"))
    older = [name for name, one in sorted(twins.items()) if one["generators"] != made_with(TWINS / f"{name}.yaml")]
    said = [OLDER.format(names=", ".join(older))] if older else []
    sections = _sections(yaml.safe_load(ROWS.read_text(encoding="utf-8")), twins, older)
    return "\n".join([HEAD, *said, *sections, ""])


def _sections(sources: list[dict[str, Any]], twins: Mapping[str, Any], older: Collection[str] = ()) -> Iterator[str]:
    for source in sources:
        yield from ("", f"## {source['source']}", "")
        yield "| shown there | config | its twin here | published | a full run needs |"
        yield "|---|---|---|---|---|"
        for row in source["rows"]:
            result = "<br>".join(_results(row, twins)) or "-"
            dagger = " †" if row.get("config") in older else ""
            yield f"| {row['what']} | {_link(row)}{dagger} | {result} | {row['published']} | {row['missing']} |"


def _link(row: Mapping[str, Any]) -> str:
    name = row.get("config")
    if "experiment" in row:
        return f"[{row['experiment']}](../experiments/{row['experiment']}.yaml)"
    if name is None:
        return "-"
    there = (ROOT / "configs" / f"{name}.yaml").exists()
    return f"[{name}](../configs/{name}.yaml)" if there else "not written yet"


def _results(row: Mapping[str, Any], twins: Mapping[str, Any]) -> Iterator[str]:
    """Of the claims of a row, one line each; nothing where it has none."""
    if "experiment" in row:
        claims = json.loads((RESULTS / f"{row['experiment']}.json").read_text(encoding="utf-8"))["claims"]
        yield from map(told, (one for one in claims if row["claims"] in one["where"]))
        return
    if "claims" not in row or not (ROOT / "configs" / f"{row['config']}.yaml").exists():
        return
    found = [one for one in twins.get(row["config"], {}).get("claims", ()) if row["claims"] in one["where"]]
    yield from map(told, found)
    if not found:
        yield "not run here"


def told(claim: Mapping[str, Any]) -> str:
    """A claim of a twin and what came of it, in one line."""
    numbers = ""
    if claim["value"] is not None and None not in claim["interval"]:
        low, high = claim["interval"]
        few = ", few groups" if claim["few_groups"] else ""
        numbers = f" ({claim['metric']} {claim['value']:+.3f}, {low:+.3f} to {high:+.3f}{few})"
    return f"{claim['says']}: **{claim['verdict']}**{numbers}"


if __name__ == "__main__":
    print(page(), end="")
