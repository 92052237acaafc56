"""How the rows of a training came to be, for its card: chains of steps from an image to the feature, and their files.

Rows of a class may come by several chains (a plain one, and others with +E or +P), and the classes by different ones;
the card counts them. The plain chain is what is done with one image that somebody asks about.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.lineage import KeptChain, KeptChains, KeptFile, KeptOrigin, Lineage, keep
from pipeline.stage import FAKE, REAL, Rows

CLASSES = {REAL: "real", FAKE: "fake"}


def kept_lineage(splits: Mapping[str, Rows], folder: Path) -> dict[str, Any]:
    """The entry `lineage` of a card; files that the steps use are copied into the model's folder, unless large.

    splits: name -> rows, whose parts have their lineage; without it there are no chains.
    """
    ways: dict[tuple[Any, ...], tuple[Lineage, set[KeptOrigin], dict[str, dict[str, int]]]] = {}
    files: dict[KeptFile, Path] = {}
    for split, rows in splits.items():
        labels, numbers = rows.column("label"), rows.part_numbers
        for number, part in enumerate(rows.parts):
            one = part.lineage
            if one is None:
                continue
            key = (len(one.origins), *((step.recipe, *step.of) for step in one.steps))
            _, origins, counts = ways.setdefault(key, (one, set(), {}))
            origins.update(one.origins)
            count = counts.setdefault(split, dict.fromkeys(CLASSES.values(), 0))
            for label, name in CLASSES.items():
                count[name] += int((labels[numbers == number] == label).sum())
            for file in (file for step in one.steps for _, file in step.kept_files):
                files[file] = one.places[file.sha256]
    keep(folder, files)
    chains = [_chain(*ways[key]) for key in sorted(ways)]
    return _plain(chains).model_dump(mode="json")


def licences(lineage: Mapping[str, Any]) -> list[str]:
    """What the origins of the rows say of their licences: stage, licence and number of files there."""
    origins = [origin for chain in lineage["chains"] for origin in chain["origins"]]
    found = {f"{origin['stage']}: {origin['licence'] or 'not stated'}" for origin in origins}
    return sorted(found) or ["not stated"]


def _chain(one: Lineage, origins: set[KeptOrigin], rows: dict[str, dict[str, int]]) -> KeptChain:
    return KeptChain(
        origins=sorted(origins, key=lambda origin: (origin.stage, origin.content, origin.licence)),
        images=len(one.origins),
        steps=list(one.steps),
        plain=not any(step.variant or step.multiplies for step in one.steps),
        rows=rows,
    )


def _plain(chains: list[KeptChain]) -> KeptChains:
    """The chains, with the one that all plain rows share, or why there is none."""
    plain = [number for number, chain in enumerate(chains) if chain.plain]
    if len(plain) == 1 and chains[plain[0]].images == 1:
        return KeptChains(chains=chains, plain=plain[0])
    if not chains:
        why_not = "nothing is known of how its training rows came to be"
    elif not plain:
        made = sorted({step.stage for chain in chains for step in chain.steps if step.variant or step.multiplies})
        why_not = f"all its training rows have passed {' or '.join(made)}"
    elif len(plain) == 1:
        why_not = f"each of its training rows is made of {chains[plain[0]].images} images"
    else:
        ways = "; ".join(f"{chains[number]} ({_counted(chains[number])})" for number in plain)
        unlike = _unlike(chains[plain[0]], chains[plain[1]])
        why_not = f"its training rows came by {len(plain)} ways: {ways}{unlike}"
    return KeptChains(chains=chains, why_not=why_not)


def _unlike(one: KeptChain, other: KeptChain) -> str:
    """Where two chains of the same stages part: a clause, or ""."""
    if str(one) != str(other):
        return ""
    pairs = zip(one.steps, other.steps, strict=True)
    first, second = next((pair for pair in pairs if pair[0].recipe != pair[1].recipe), (one.steps[0], other.steps[0]))
    names = sorted(name for name in first.config if first.config[name] != second.config.get(name))
    return f"; {first.stage} is not the same" + (f" ({', '.join(names)})" if names else "")


def _counted(chain: KeptChain) -> str:
    """ "30 real, 12 fake" over all splits."""
    sums = {name: sum(count[name] for count in chain.rows.values()) for name in CLASSES.values()}
    return ", ".join(f"{number} {name}" for name, number in sums.items() if number)
