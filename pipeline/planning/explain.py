"""Why rows are computed: the closed list of causes, found by holding a plan against the recipes in the store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.errors import DamagedArtifactError, OldFormatError, StoreError
from pipeline.planning.planned import ArtifactPlan, Plan
from pipeline.planning.rates import read_rates
from pipeline.planning.recipes import differences
from pipeline.planning.row_names import rows_named
from pipeline.planning.selection import Branch, origin
from pipeline.planning.sources import changed_content
from pipeline.storage.artifacts import read_card
from pipeline.storage.chain_index import ChainIndex
from pipeline.storage.sealed import CARD_BYTES, ZARR_BYTES, parse, read_regular, read_sealed

CAUSES = ("new", "content", "config", "code", "upstream", "artifact", "env", "schema", "damaged", "failed before",
          "forced")  # fmt: skip


@dataclass
class Staleness:
    """State of one branch or artifact: how many rows are missing, and why."""

    node: str
    wanted: int
    missing: int  # to be computed
    causes: list[tuple[str, str, int]] = field(default_factory=list)  # cause, sentence, rows
    seconds: float | None = None
    kind: str = "rows"
    failed: int = 0  # allowed failures of earlier runs; `run` tries them again
    unreadable: int = 0  # files of a source that are missing or cannot be read

    def as_data(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "kind": self.kind,
            "wanted": self.wanted,
            "missing": self.missing,
            "failed": self.failed,
            "unreadable": self.unreadable,
            "estimate_s": self.seconds,
            "causes": [{"cause": c, "what": text, "rows": rows} for c, text, rows in self.causes],
        }


class Explainer:
    """Reads `recipe.json` files of the store as needed; nothing is read for what is fresh."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.known: dict[str, list[tuple[Path, Mapping[str, Any]]]] = {}
        self.indices: dict[bytes, ChainIndex] = {}
        self.rates = read_rates(plan.store.root)

    def all(self) -> list[Staleness]:
        return [state for name in self.plan.nodes for state in self.of(name)]

    def branch(self, branch: Branch) -> Staleness:
        missing = np.flatnonzero(~branch.have & ~branch.failed)
        source = "" if not branch.sides else _source_word(branch)
        result = Staleness(f"{branch.node}{source}", len(branch.rows), len(missing), failed=int(branch.failed.sum()),
                           unreadable=len(branch.problems))  # fmt: skip
        if not len(missing):
            return result
        rate = self.rates.rows.get(branch.stage.name)
        result.seconds = len(missing) / rate if rate else None
        rest = branch.rows.id[missing]
        failures = self.plan.store.failures(branch.stage.name, branch.chain)
        if failures:
            again = ids.isin(rest, ids.from_bytes(failures))
            if again.any():
                reason = failures[bytes(rest[again][0])].get("reason", "")
                result.causes.append(("failed before", f"tried again ({reason})", int(again.sum())))
                rest = rest[~again]
        if branch.damaged and len(rest):
            count = min(len(rest), sum(_rows_of(path) for path, _ in branch.damaged) or len(rest))
            result.causes.append(("damaged", branch.damaged[0][1], count))
            rest = rest[count:]
        if len(rest):
            result.causes += self._moved(branch, rest)
        return result

    def previous(self, branch: Branch) -> Mapping[str, Any] | None:
        """The recipe record of the chain that held the missing rows before, with a mask "there" over them.

        Samples of two generators from one seed have one id, so rows born in another source are no predecessors.
        """
        stage, rest = branch.stage.name, branch.rows.id[~branch.have]
        parents = [side.branch.chain.hex() for side in branch.sides]
        best: tuple[Any, Mapping[str, Any]] | None = None
        for folder, record in self._recipes(stage):
            chain = bytes.fromhex(record["chain"])
            if chain == branch.chain:
                continue
            if chain not in self.indices:
                self.indices[chain] = self.plan.store.index(stage, chain)
            there = self.indices[chain].contains(rest)
            if not there.any() or self._of_another_source(record, _birth(branch)):
                continue
            same = sum(record["components"].get(key) == value for key, value in branch.recipe.components.items())
            recent = (folder / "recipe.json").stat().st_mtime
            score = (record.get("inputs") == parents, record.get("node") == branch.node, same, int(there.sum()), recent)
            if best is None or score > best[0]:
                best = (score, {**record, "there": there})
        return best[1] if best else None

    def _of_another_source(self, record: Mapping[str, Any], birth: Branch) -> bool:
        """Whether a chain begins with another source of this plan, one that is made in another way."""
        while record.get("inputs"):
            chain = bytes.fromhex(record["inputs"][0])
            above = next(self.plan.store.root.glob(f"*/{chain[:8].hex()}/recipe.json"), None)
            found = None if above is None else _record(above)
            if found is None:
                return False
            record = found
        others = self.plan.branches.get(str(record.get("node")), ())
        return record.get("node") != birth.node and any(other.chain != birth.chain for other in others)

    def _moved(self, branch: Branch, rest: NDArray[np.void]) -> list[tuple[str, str, int]]:
        """Rows that another chain of the stage holds are stale by what differs; the others are new."""
        record = self.previous(branch)
        found: list[tuple[str, str, int]] = []
        fresh = rest
        if record is not None:
            held = branch.rows.id[~branch.have][record["there"]]
            count = int(ids.isin(rest, held).sum())
            fresh = rest[~ids.isin(rest, held)]
            old = {**record["components"], "functions": record.get("functions", {})}
            reasons = differences(old, branch.recipe.components)
            if record.get("inputs") != [side.branch.chain.hex() for side in branch.sides]:
                own = [one for one in reasons if one[0] != "schema"]
                known = {text for _, text in own}
                upstream = [one for one in self._upstream(branch) if one[1].partition(": ")[2] not in known]
                upstream = upstream if upstream or own else [("upstream", "its inputs changed")]
                reasons = [*own, *upstream, *(one for one in reasons if one[0] == "schema")]
            if count:
                found += [(cause, text, count) for cause, text in reasons]
        if len(fresh):
            changed = changed_content(self.plan.store.root, _birth(branch), fresh)
            if changed:
                found.append(("content", f"files of {_birth(branch).node} have another content", changed))
            if len(fresh) > changed:
                found.append(
                    ("new", f"in source {_birth(branch).node}; computed by no shard yet", len(fresh) - changed)
                )
        return found

    def _upstream(self, branch: Branch) -> list[tuple[str, str]]:
        """What changed in the inputs of a branch: the causes of the nearest stale ancestors, with their names."""
        found: list[tuple[str, str]] = []
        for side in branch.sides:
            causes = [(cause, text) for cause, text, _ in self.branch(side.branch).causes if cause != "new"]
            found += [("upstream", text if cause == "upstream" else f"{side.branch.node}: {text}")
                      for cause, text in causes[:1]]  # fmt: skip
        parents = ", ".join(sorted({side.branch.node for side in branch.sides}))
        return list(dict.fromkeys(found)) or [("upstream", f"{parents} changed")]

    def previous_artifact(self, artifact: ArtifactPlan) -> Mapping[str, Any] | None:
        """The card of the newest artifact of the same node."""
        stage = artifact.node.stage.name
        named = [pair for pair in self._artifacts(stage) if pair[1].get("node") == artifact.node.name]
        return max(named, key=lambda pair: (pair[0] / "artifact.json").stat().st_mtime)[1] if named else None

    def of(self, name: str) -> list[Staleness]:
        """States of one node."""
        if name in self.plan.artifacts:
            return [self.artifact(self.plan.artifacts[name])]
        return [self.branch(branch) for branch in self.plan.branches[name]]

    def artifact(self, artifact: ArtifactPlan) -> Staleness:
        result = Staleness(artifact.node.name, 1, int(artifact.found is None), kind="artifact")
        if artifact.found is not None:
            return result
        result.seconds = self.rates.seconds_of_fit(artifact.node.name, artifact.node.stage.name)
        if damaged := self._damaged(artifact):
            result.causes.append(("damaged", damaged, artifact.rows))
            return result
        info = self.previous_artifact(artifact)
        if info is None:
            result.causes.append(("new", "made by no run yet", artifact.rows))
            return result
        recipe = info.get("recipe", {})
        reasons = differences(recipe, artifact.recipe.components)
        if not reasons:
            reasons = [("upstream", "the rows that it is made from changed")]
        result.causes += [(cause, text, artifact.rows) for cause, text in reasons]
        return result

    def _damaged(self, artifact: ArtifactPlan) -> str:
        """What is wrong with what lies in the place of an artifact; "" if nothing lies there."""
        place = self.plan.store.artifact_dir(artifact.node.stage.name, artifact.key)
        if not os.path.lexists(place):
            return ""
        try:
            read_card(place, artifact.key.hex())
        except DamagedArtifactError as error:
            return str(error)
        except (OldFormatError, StoreError):
            pass
        return ""

    def _recipes(self, stage: str) -> list[tuple[Path, Mapping[str, Any]]]:
        if stage not in self.known:
            self.known[stage] = self._records(stage, "recipe.json")
        return [pair for pair in self.known[stage] if "components" in pair[1]]

    def _artifacts(self, stage: str) -> list[tuple[Path, Mapping[str, Any]]]:
        return self._records(stage, "artifact.json")

    def _records(self, stage: str, name: str) -> list[tuple[Path, Mapping[str, Any]]]:
        """The readable files of this name below a stage; damaged ones explain nothing (`verify` names them)."""
        paths = sorted((self.plan.store.root / stage).glob(f"*/{name}"))
        return [(path.parent, record) for path in paths if (record := _record(path)) is not None]

    def row(self, node: str, prefix: str) -> list[str]:
        """Lines on one row of a node: state, cause, and lineage from the source."""
        lines = []
        for branch, position in rows_named(self.plan.branches.get(node, []), prefix):
            rows, row_id = branch.rows, bytes(branch.rows.id[position])
            state = "computed" if branch.have[position] else "MISSING"
            lines.append(f"{row_id.hex()}  {state} in {branch.node}, born as {origin(branch, position)}")
            lines.append(
                f"  label {('real', 'fake')[rows.label[position]]}, split "
                f"{('train', 'val', 'test')[rows.split[position]]}, group {ids.hex(rows.group[position])[:12]}, "
                f"domain {self.plan.names.words[rows.domain[position]] or '-'}, "
                f"source {self.plan.names.words[rows.source[position]]}"
            )
            lines += [f"  {step}" for step in lineage(branch, position)]
            if not branch.have[position]:
                failed = failure_of(self.plan, branch, position)
                lines.append(f"  {f'FAILED {failed}' if failed else 'computed by no shard yet'}")
        return lines


def failure_of(plan: Plan, branch: Branch, position: int) -> str:
    """Why a row could not be computed: what its node says, or one above with that one's name; "" if none does."""
    node = branch
    while True:
        failure = plan.store.failures(node.stage.name, node.chain).get(bytes(node.rows.id[position]))
        if failure is not None:
            return str(failure["reason"]) if node is branch else f"{node.node}: {failure['reason']}"
        if not node.sides:
            return ""
        side = node.sides[0]
        node, position = side.branch, int(side.positions[position])


def not_computed(plan: Plan, branch: Branch, position: int) -> str:
    """The sentence for a row that is not stored."""
    row = f"row {ids.hex(branch.rows.id[position])[:12]} of {branch.node}"
    failed = failure_of(plan, branch, position)
    return f"{row} failed: {failed}" if failed else f"{row} is not computed; `touchstone run {branch.node}` does it"


def lineage(branch: Branch, position: int) -> list[str]:
    """From a row to its source: node, stage, chain and id of each step."""
    lines = []
    while True:
        lines.append(f"{branch.node} ({branch.stage.name}) chain {branch.chain.hex()[:16]} "
                     f"id {ids.hex(branch.rows.id[position])[:12]}")  # fmt: skip
        if not branch.sides:
            return lines
        side = branch.sides[0]
        branch, position = side.branch, int(side.positions[position])


def _birth(branch: Branch) -> Branch:
    while branch.sides:
        branch = branch.sides[0].branch
    return branch


def _source_word(branch: Branch) -> str:
    return f" <- {_birth(branch).node}"


def _record(path: Path) -> Mapping[str, Any] | None:
    """A recipe or card of any format; None if it is damaged or of another chain than its directory."""
    try:
        found = read_sealed(path, CARD_BYTES, ())
    except OldFormatError:
        found = parse(read_regular(path, CARD_BYTES))
    except (OSError, ValueError):
        return None
    name = found.get("chain", found.get("key"))
    return found if str(name)[:16] == path.parent.name else None


def _rows_of(path: Any) -> int:
    """Rows that a damaged shard says it holds; 0 if even that cannot be read."""
    try:
        return int(parse(read_regular(Path(path) / "zarr.json", ZARR_BYTES))["attributes"]["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
