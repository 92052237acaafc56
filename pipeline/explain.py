"""Why rows are computed: the closed list of causes, found by holding a plan against the recipes in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import ids
from pipeline.plan import ArtifactPlan, Plan
from pipeline.rates import read_rates
from pipeline.recipes import differences
from pipeline.run import origin
from pipeline.selection import Branch

CAUSES = ("new", "content", "config", "code", "upstream", "artifact", "env", "schema", "damaged", "failed before",
          "forced")  # fmt: skip


@dataclass
class Staleness:
    """State of one branch or artifact: how many rows are missing, and why."""

    node: str
    wanted: int
    missing: int
    causes: list[tuple[str, str, int]] = field(default_factory=list)  # cause, sentence, rows
    seconds: float | None = None
    kind: str = "rows"

    def as_data(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "kind": self.kind,
            "wanted": self.wanted,
            "missing": self.missing,
            "estimate_s": self.seconds,
            "causes": [{"cause": c, "what": text, "rows": rows} for c, text, rows in self.causes],
        }


class Explainer:
    """Reads `recipe.json` files of the store as needed; nothing is read for what is fresh."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.known: dict[str, list[tuple[Path, Mapping[str, Any]]]] = {}
        self.rates = read_rates(plan.store.root)

    def all(self) -> list[Staleness]:
        found = []
        for name in self.plan.nodes:
            if name in self.plan.artifacts:
                found.append(self.artifact(self.plan.artifacts[name]))
            else:
                found += [self.branch(branch) for branch in self.plan.branches[name]]
        return found

    def branch(self, branch: Branch) -> Staleness:
        missing = np.flatnonzero(~branch.have)
        source = "" if not branch.sides else _source_word(branch)
        result = Staleness(f"{branch.node}{source}", len(branch.rows), len(missing))
        if not len(missing):
            return result
        rate = self.rates.get(branch.stage.name)
        result.seconds = len(missing) / rate if rate else None
        rest = branch.rows.id[missing]
        failures = self.plan.store.failures(branch.stage.name, branch.chain)
        if failures:
            again = ids.isin(rest, ids.from_bytes(failures))
            if again.any():
                reason = next(iter(failures.values())).get("reason", "")
                result.causes.append(("failed before", f"tried again ({reason})", int(again.sum())))
                rest = rest[~again]
        if branch.damaged and len(rest):
            count = min(len(rest), sum(_rows_of(path) for path, _ in branch.damaged) or len(rest))
            result.causes.append(("damaged", branch.damaged[0][1], count))
            rest = rest[count:]
        if len(rest):
            result.causes += self._moved(branch, rest)
        return result

    def _moved(self, branch: Branch, rest: np.ndarray[Any, Any]) -> list[tuple[str, str, int]]:
        """Rows that another chain of the stage holds are stale by what differs; the others are new."""
        best: tuple[int, Mapping[str, Any]] | None = None
        stage = branch.stage.name
        for folder, record in self._recipes(stage):
            chain = bytes.fromhex(record.get("chain", "")) or b""
            if chain == branch.chain or len(chain) != 16:
                continue
            there = self.plan.store.index(stage, chain).contains(rest)
            count = int(there.sum())
            same = sum(record["components"].get(k) == v for k, v in branch.recipe.components.items())
            same += record.get("inputs") == [side.branch.chain.hex() for side in branch.sides]
            recent = (folder / "recipe.json").stat().st_mtime
            score = (count > 0, record.get("node") == branch.node, same, count, recent)
            if count and (best is None or score > best[0]):  # type: ignore[operator]
                best = (score, {**record, "there": there})  # type: ignore[assignment]
        found: list[tuple[str, str, int]] = []
        fresh = len(rest)
        if best is not None:
            record = best[1]
            count = int(record["there"].sum())
            fresh -= count
            old = {**record["components"], "functions": record.get("functions", {})}
            reasons = differences(old, branch.recipe.components)
            if not reasons and record.get("inputs") != [side.branch.chain.hex() for side in branch.sides]:
                parents = ", ".join(sorted({side.branch.node for side in branch.sides}))
                reasons = [("upstream", f"{parents} changed")]
            found += [(cause, text, count) for cause, text in reasons] or [("upstream", "its inputs changed", count)]
        if fresh:
            changed = self._changed_content(branch, rest if best is None else rest[~best[1]["there"]])
            if changed:
                found.append(("content", f"{changed} with new content", changed))
            if fresh - changed:
                found.append(("new", f"in source {_birth(branch).node}; computed by no shard yet", fresh - changed))
        return found

    def _changed_content(self, branch: Branch, fresh: np.ndarray[Any, Any]) -> int:
        """How many of the new rows lie in files that had another content at the last run."""
        del branch, fresh
        return 0

    def artifact(self, artifact: ArtifactPlan) -> Staleness:
        result = Staleness(artifact.node.name, 1, int(artifact.found is None), kind="artifact")
        if artifact.found is not None:
            return result
        stage = artifact.node.stage.name
        candidates = [(folder, info) for folder, info in self._artifacts(stage)
                      if info.get("node") == artifact.node.name]  # fmt: skip
        if not candidates:
            result.causes.append(("new", "made by no run yet", artifact.rows))
            return result
        _, info = max(candidates, key=lambda pair: (pair[0] / "artifact.json").stat().st_mtime)
        recipe = info.get("recipe", {})
        reasons = differences(recipe, artifact.recipe.components)
        if not reasons:
            reasons = [("upstream", "the rows that it is made from changed")]
        result.causes += [(cause, text, artifact.rows) for cause, text in reasons]
        return result

    def _recipes(self, stage: str) -> list[tuple[Path, Mapping[str, Any]]]:
        if stage not in self.known:
            folder = self.plan.store.root / stage
            self.known[stage] = [(path.parent, json.loads(path.read_text(encoding="utf-8")))
                                 for path in sorted(folder.glob("*/recipe.json"))]  # fmt: skip
        return [pair for pair in self.known[stage] if "components" in pair[1]]

    def _artifacts(self, stage: str) -> list[tuple[Path, Mapping[str, Any]]]:
        folder = self.plan.store.root / stage
        return [(path.parent, json.loads(path.read_text(encoding="utf-8")))
                for path in sorted(folder.glob("*/artifact.json"))]  # fmt: skip

    def row(self, node: str, prefix: str) -> list[str]:
        """Lines on one row of a node: state, cause, and lineage from the source."""
        lines = []
        for branch in self.plan.branches.get(node, []):
            for position, row_id in enumerate(ids.to_bytes(branch.rows.id)):
                if not row_id.hex().startswith(prefix.lower()):
                    continue
                rows = branch.rows
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
                    failure = self.plan.store.failures(branch.stage.name, branch.chain).get(row_id)
                    lines.append(f"  {'FAILED ' + failure['reason'] if failure else 'computed by no shard yet'}")
        return lines


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


def _rows_of(path: Any) -> int:
    """Rows that a damaged shard says it holds; 0 if even that cannot be read."""
    try:
        return int(json.loads((Path(path) / "zarr.json").read_text(encoding="utf-8"))["attributes"]["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
