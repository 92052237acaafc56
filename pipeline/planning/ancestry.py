"""The lineage of a planned branch: from the rows' origin to here, with the places of all files on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.digests import digest
from pipeline.lineage import KeptArtifact, KeptFile, KeptOrigin, KeptStep, Lineage
from pipeline.planning.planned import ArtifactPlan
from pipeline.planning.selection import Branch, Selection
from pipeline.stage import Artifact, Kind
from pipeline.storage.artifacts import CONSUMED


def lineage_of(branch: Branch, words: list[str], find: Callable[[ArtifactPlan], Artifact]) -> Lineage:
    """The lineage of a branch's rows. words: sources by number; find: a finished artifact of the plan."""
    origins: list[KeptOrigin] = []
    steps: list[KeptStep] = []
    places: dict[str, Path] = {}
    numbers: dict[bytes, int] = {}  # chain -> origin or step

    def visit(one: Branch) -> int:
        if one.chain not in numbers:
            if one.stage.origin or not one.sides or words[int(one.rows.source[0])] == one.node:
                origins.append(KeptOrigin(stage=one.stage.name, content=one.stage.content, licence=_licence(one)))
                numbers[one.chain] = -len(origins)
            else:
                above = [visit(side.branch) for side in one.sides]
                artifacts = {
                    name: [(find(each), each.promise) for each in found] for name, found in one.artifacts.items()
                }
                steps.append(_kept_step(one, above, artifacts))
                numbers[one.chain] = len(steps) - 1
                places.update({one.recipe.components["files"][name]: file.path for name, file in one.files.items()})
                for used in (artifact for found in artifacts.values() for artifact, _ in found):
                    places.update({used.info["files"][name]["sha256"]: used.path / name for name in _used(used)})
        return numbers[one.chain]

    visit(branch)
    return Lineage(tuple(origins), tuple(steps), places)


def licences_stated(views: Mapping[str, Mapping[str, Sequence[Selection]]]) -> list[tuple[bytes, bytes]]:
    """(chain, digest of the licence) of each origin above some rows that states one, sorted: it stands in cards."""
    found: set[tuple[bytes, bytes]] = set()
    seen: set[int] = set()  # not chains: sources of one recipe have one
    waiting = [side.branch for parts in views.values() for some in parts.values() for one in some for side in one.sides]
    while waiting:
        branch = waiting.pop()
        if id(branch) not in seen:
            seen.add(id(branch))
            waiting += [side.branch for side in branch.sides]
            found |= {(branch.chain, digest("licence", licence)) for licence in (_licence(branch),) if licence}
    return sorted(found)


def _licence(origin: Branch) -> str:
    """What it states of its rows, or else what a manifest says of the files that it makes them with."""
    of_files = {str(file.entry["licence"]) for file in origin.files.values() if file.entry.get("licence")}
    return origin.licence or "; ".join(sorted(of_files))


def _used(artifact: Artifact) -> list[str]:
    """Files of an artifact that the stage has written."""
    return [name for name in artifact.info["files"] if name != CONSUMED]


def _kept_step(
    branch: Branch, above: list[int], artifacts: Mapping[str, list[tuple[Artifact, Mapping[str, Any]]]]
) -> KeptStep:
    stage, components = branch.stage, branch.recipe.components
    return KeptStep(
        stage=stage.name,
        module=stage.named_in,
        of=above,
        multiplies=stage.kind is Kind.EXPAND,
        variant=stage.makes_variant,
        recipe=branch.recipe.digest.hex(),
        seed=components.get("seed", 0),
        config=components["config"],
        fields=components["schema"],
        files={
            name: KeptFile(sha256=components["files"][name], size=file.path.stat().st_size)
            for name, file in branch.files.items()
        },
        artifacts={
            name: [
                KeptArtifact(
                    stage=one.info["stage"],
                    key=one.key,
                    files={file: KeptFile(**one.info["files"][file]) for file in _used(one)},
                    promise=dict(promise),
                )
                for one, promise in found
            ]
            for name, found in artifacts.items()
        },
        code=components["code"],
        environment=components["env"],
    )
