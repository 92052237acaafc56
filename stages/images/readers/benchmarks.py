"""What is known of published data sets (`manifests/datasets.yaml`): names of their sets, counts, damaged files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.sentences import counted

DATASETS = Path(__file__).parents[3] / "manifests" / "datasets.yaml"


@cache
def datasets() -> Mapping[str, Mapping[str, Any]]:
    """Entries by name; none where the file is not there, as in an installation without manifests."""
    import yaml

    return yaml.safe_load(DATASETS.read_text(encoding="utf-8")) if DATASETS.is_file() else {}


def benchmark_notes(
    asked: str, paths: Sequence[str], domains: Sequence[str] | None, splits: frozenset[str] = frozenset()
) -> list[str]:
    """Which data set it is, how its counts differ from the known ones, and which files are known to be damaged.

    asked: name of the data set, or of none: the one whose sets have the names of the domains that were found, `splits`
    left out. domains: of all images, SET or SET/CLASS.
    """
    found = Counter(domain.partition("/")[0] for domain in domains or ())
    names = set(found) - splits - {"."}
    if asked in datasets():
        return [*_counts(asked, found), *_damaged(asked, paths)]
    fitting = [name for name, entry in datasets().items() if names and names <= set(entry.get("sets", ()))]
    if len(fitting) == 1:
        return [
            f"benchmark: {fitting[0]}, by the names of its sets",
            *_counts(fitting[0], found),
            *_damaged(fitting[0], paths),
        ]
    return [f"benchmark: {' or '.join(fitting)}, which have sets of these names"] if fitting else []


def _counts(name: str, found: Mapping[str, int]) -> list[str]:
    """One sentence each on sets that are missing and of another size than is known, and where the files lie."""
    entry = datasets()[name]
    expected: Mapping[str, int | None] = entry.get("sets", {})
    wrong = [
        f"{one} expected {number:,}, found {found[one]:,}"
        for one, number in expected.items()
        if number is not None and one in found and found[one] != number
    ]
    missing = [one for one in expected if one not in found]
    total, all_found = entry.get("images"), sum(found.values())
    if total is not None and not missing and total != all_found:
        wrong.append(f"all together expected {total:,}, found {all_found:,}")
    told = []
    if wrong:
        doubt = "" if entry.get("counts") == "verified" else " (as published, not verified)"
        told.append(f"{counted(len(wrong), 'count')} not as expected{doubt}: {'; '.join(wrong)}")
    if missing and len(missing) < len(expected):
        told.append(f"{counted(len(missing), 'set')} missing: {', '.join(missing)}")
    if told:
        told.append(f"get it from {'; '.join(entry['mirrors']) or 'its authors'}; digests: {_digests(entry)}")
    return [f"{name}: {text}" for text in told]


def _digests(entry: Mapping[str, Any]) -> str:
    """SHA-256 of each file, or that there are none."""
    return ", ".join(f"{file} {digest}" for file, digest in (entry["digests"] or {}).items()) or "not published"


def _damaged(name: str, paths: Sequence[str]) -> list[str]:
    """One sentence on files that are known to be damaged as published."""
    ends = tuple(f"/{end}" for end in datasets()[name].get("damaged", ()))
    found = [path for path in paths if f"/{path}".endswith(ends)] if ends else []
    return (
        [f"{name}: {counted(len(found), 'file')} known to be damaged as published: {', '.join(found)}"] if found else []
    )
