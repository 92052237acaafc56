"""The whole plan, known before anything runs: chains, wanted rows, what the store has, artifact keys.

Planning touches numpy only (no torch, no zarr) and is linear in the rows with a small constant: rows are columns, and
`wanted - present` is a set operation on ids. Rows that failed in the run that asks are left out of everything that
reads them, so that an artifact's key always names the ids it is really made from.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.contents import NAMED, NamedFiles
from pipeline.declaring.config import Node, Pipeline
from pipeline.declaring.views import View
from pipeline.digests import digest
from pipeline.errors import ConfigError, SourceError, TouchstoneError
from pipeline.planning.ancestry import licences_stated
from pipeline.planning.closure import one_look, use_facts_of
from pipeline.planning.descent import review
from pipeline.planning.expand import Made, expanded
from pipeline.planning.joining import Joins, has_all, repeated
from pipeline.planning.pins import Pin
from pipeline.planning.planned import ArtifactPlan, Plan, artifacts_of, pinned_elsewhere
from pipeline.planning.recipes import Recipe, artifact_key, chain_of, differences, make_recipe, rows_digest
from pipeline.planning.rows import Rows, check_leaks, tabulate
from pipeline.planning.selection import (
    Branch,
    Evaluator,
    Selection,
    check_twins,
    common_schema,
    measured_steps,
    split_counts,
)
from pipeline.sentences import counted
from pipeline.stage import CONTENT, ORIGIN, SPLITS, Children, Field, Kind, Parents, Promise, Schema, Stage

if TYPE_CHECKING:
    from pipeline.inputs.scan import Scan
    from pipeline.storage.store import Store

Failed = Mapping[bytes, NDArray[np.void]]  # chain -> ids of rows that failed in this run


def make_plan(
    pipeline: Pipeline,
    store: Store,
    scan: Scan,
    wanted: set[str] | None = None,
    failed: Failed | None = None,
    pins: Mapping[str, Pin] | None = None,
    recorded: bool = False,
    allowed: bool = False,
) -> Plan:
    """Plan the nodes in `wanted` (default: all). Raises ConfigError, SourceError or StoreError; writes nothing.

    failed: rows that failed in the run that asks; with `recorded`, the failures in the store count as well, so that
    the plan is that of the last run (`run` tries such rows again); with `allowed`, those of the nodes that have no more
    of them than `max_failed_rows`, so that what a run has left is complete.
    """
    use_facts_of(store.root)
    plan = Plan(pipeline, store, aliases=store.aliases())
    planner = _Planner(plan, scan, failed or {}, pins or {}, recorded, allowed)
    with one_look():
        for node in pipeline.nodes.values():
            if wanted is None or node.name in wanted:
                planner.add(node)
    planner.check()
    plan.damaged = review(plan)
    return plan


class _Planner:
    def __init__(
        self, plan: Plan, scan: Scan, failed: Failed, pins: Mapping[str, Pin], recorded: bool, allowed: bool
    ) -> None:
        self.plan = plan
        self.scan = scan
        self.failed = failed
        self.pins = pins
        self.recorded = recorded
        self.allowed = allowed
        self.settings = plan.pipeline.settings
        entries = {node.entry for node in plan.pipeline.nodes.values()}
        self.evaluator = Evaluator(
            plan.branches, plan.names, self.settings.seed, frozenset(plan.pipeline.nodes) | entries
        )
        self.sources: list[tuple[str, Rows]] = []
        self.joins = Joins(self.evaluator)
        self.old = 0  # shards of another format in the planned chains

    def add(self, node: Node) -> None:
        self.node = node
        files = self._file_digests(node)
        self._check_promises(node)
        self.plan.notes += [f"{node.name}: {text}" for text in node.stage.remarks(node.config, self._paths(node))]
        if node.stage.kind in (Kind.FIT, Kind.REDUCE):
            self.plan.artifacts[node.name] = self._artifact(node, files)
            return
        if node.stage.kind is Kind.SOURCE:
            branches = [self._source(node, files)]
        else:
            views = [self._selected(node, name) for name in node.views]
            if node.stage.kind is Kind.EXPAND:
                branches = [self._derived(node, files, *made) for made in self._expanded(node, *views)]
            else:
                (selections,) = views
                branches = [self._derived(node, files, one, one.table()) for one in selections]
                self._check_branches(node, branches)
        for branch in branches:
            self._look_up(branch)
        if self.recorded or self.allowed:
            self._recall_failures(node, branches)
        self.plan.branches[node.name] = branches

    def check(self) -> None:
        self._note_files()
        check_leaks(self.sources, self.plan.names)
        by_chain: dict[bytes, list[Branch]] = {}
        for name, _ in self.sources:
            for branch in self.plan.branches[name]:
                by_chain.setdefault(branch.chain, []).append(branch)
        for branches in by_chain.values():
            for one, other in itertools.combinations(branches, 2):
                note = check_twins(one, other)
                self.plan.notes += [note] if note else []

    def _note_files(self) -> None:
        """Say which files of the store are left alone or written again."""
        if self.plan.unrecorded:
            first = self.plan.unrecorded[0]
            path = self.plan.store.chain_dir(first.stage.name, first.chain) / "recipe.json"
            count = counted(len(self.plan.unrecorded), "recipe file")
            self.plan.notes.append(f"{count} missing or damaged (first {path}); `touchstone run` writes them again")
        if self.old:
            self.plan.notes.append(
                f"{counted(self.old, 'shard')} of an earlier format left alone; `touchstone gc` lists them"
            )

    def _problem(self, sentence: str) -> ConfigError:
        return self.plan.pipeline.document.error(self.node.place, f"{self.node.instance}{sentence}")

    def _file_digests(self, node: Node) -> dict[str, str]:
        digests = {}
        for name, reference in node.files.items():
            found = self.scan.digest(reference.path.absolute()).hex()
            if reference.sha256 and reference.sha256 != found:
                raise self._problem(
                    f"reads {reference.path.name}, whose SHA-256 is {found[:12]}..., but the manifest promises "
                    f"{reference.sha256[:12]}...; restore the file, or correct the manifest if the change is meant"
                )
            digests[name] = found
        named = node.stage.named_files(node.config, self._paths(node)) if digests else None
        return digests if named is None else {**digests, NAMED: self._named_digest(node, named)}

    def _named_digest(self, node: Node, named: NamedFiles) -> str:
        """Digest of files that a file of the settings names."""
        try:
            listing = self.scan.files(named.folder, named.names, follow_links=True)
        except (ConfigError, SourceError) as error:
            raise self._problem(f"names files in {named.folder}: {error}") from None
        if listing.problems:
            row, reason = next(iter(listing.problems.items()))
            raise self._problem(
                f"names '{listing.paths[row][:200]}', which cannot be read in {named.folder}: {reason}; correct the "
                "name or the folder"
            )
        digests = dict(zip(listing.paths, (bytes(one) for one in listing.digests), strict=True))
        return named.digest(digests.__getitem__)

    def _lost(self, node: Node) -> bool:
        """Whether rows that the node could have read have failed: then it may find none."""
        above = self.plan.pipeline.select([node.name])
        read = [branch for name in above for branch in self.plan.branches.get(name, [])]
        return any(branch.failed.any() or not len(branch.rows) for branch in read)

    def _artifact_inputs(self, node: Node) -> dict[str, tuple[ArtifactPlan, ...]]:
        return {key: tuple(self.plan.artifacts[name] for name in names) for key, names in node.artifacts.items()}

    def _recipe(self, node: Node, schema: Schema, files: Mapping[str, str]) -> tuple[Recipe, bytes]:
        """The recipe and its digest after `accept`."""
        named = node.stage.kind is Kind.REDUCE  # what a reduce writes names the nodes that it was made from
        keys: dict[str, str] = {}
        code: dict[str, str] = {}
        for name, found in self._artifact_inputs(node).items():
            for number, one in enumerate(found):
                place = name if len(found) == 1 else f"{name}.{number}"
                keys[f"{place} {one.node.name}" if named else place] = one.key.hex()
                code |= one.recipe.components["code"]  # whoever uses a model runs its code too
        settings = self.settings
        recipe = make_recipe(
            node.stage, node.config, schema, self._paths(node), files, keys,
            settings.seed, settings.device, settings.threads, code, self._models(node),
        )  # fmt: skip
        alias = self.plan.aliases.get(recipe.digest.hex())
        return recipe, bytes.fromhex(alias) if alias else recipe.digest

    def _paths(self, node: Node) -> dict[str, Any]:
        """Places of file settings, and promises where a setting names a node."""
        return {key: reference.path for key, reference in node.files.items()} | self._promises(node)

    def _promises(self, node: Node) -> dict[str, Promise]:
        """What planning has in place of the files of settings that name a node."""
        settings = type(node.config).model_fields
        return {key: promise for key, promise in self._models(node).items() if key in settings}

    def _models(self, node: Node) -> dict[str, Promise]:
        """Input -> what its artifact will be; of an input of several, `input.0` and so on, in their order."""
        return {
            key if node.stage.inputs[key].kind == "artifact" else f"{key}.{number}": Promise(
                name, self.plan.artifacts[name].promise
            )
            for key, names in node.artifacts.items()
            for number, name in enumerate(names)
        }

    def _check_promises(self, node: Node) -> None:
        """The stage's check of its files, where some are still to be made."""
        if self._promises(node):
            try:
                node.stage.check(node.config, self._paths(node))
            except ValueError as error:
                raise self._problem(str(error)) from None

    def _step(self, node: Node, recipe: Recipe, accepted: bytes) -> dict[str, Any]:
        parts, stage = recipe.components, node.stage
        is_of: dict[str, Any] = {"origin": stage.origin or stage.kind is Kind.SOURCE, "content": stage.content,
                                 "variant": stage.makes_variant, "recipe": accepted.hex()}  # fmt: skip
        if stage.moves:
            is_of["moves"] = list(stage.moves)
        if left := stage.leaves(node.config, {**self._models(node), **self._paths(node)}):
            is_of["leaves"] = dict(left)
        return {"stage": stage.name, "config": parts["config"], "files": parts["files"],
                "artifacts": parts["artifact"], "environment": parts["env"], **is_of}  # fmt: skip

    def _schema(self, node: Node, inputs: Mapping[str, Any]) -> Schema:
        try:
            return node.stage.schema(node.config, {**self._models(node), **self._paths(node), **inputs})
        except ValueError as error:
            raise self._problem(str(error)) from None

    def _check_rows(self, node: Node, views: Mapping[str, Mapping[str, list[Selection]]]) -> None:
        if type(node.stage).check_rows is Stage.check_rows:
            return  # it takes whatever there is
        found = {
            f"{name}.{label}" if label else name: split_counts(selections)
            for name, named in views.items()
            for label, selections in named.items()
        }
        try:
            node.stage.check_rows(node.config, found)
        except ValueError as error:
            if not self._lost(node):
                raise self._problem(str(error)) from None

    def _check_branches(self, node: Node, branches: list[Branch]) -> None:
        try:
            node.stage.check_branches(node.config, [_with_content(branch.sides[0].branch) for branch in branches])
        except ValueError as error:
            if not self._lost(node):
                raise self._problem(str(error)) from None

    def _source(self, node: Node, files: Mapping[str, str]) -> Branch:
        schema = self._schema(node, {})
        recipe, accepted = self._recipe(node, schema, files)
        try:
            found = node.stage.discover(node.config, self.scan)
        except ValueError as error:
            raise self._problem(str(error)) from None
        except TouchstoneError as error:
            raise type(error)(str(self._problem(str(error)))) from None
        shares = {str(name): share for name, share in self.settings.splits.items()}
        source = tabulate(found, node.name, self.settings.seed, shares, self.plan.names)
        if not len(source.rows) and not source.problems:
            raise self._problem("finds no rows")
        self.plan.notes += source.notes
        self.sources.append((node.name, source.rows))
        return Branch(
            node.name, node.stage, node.config, chain_of(accepted, []), recipe, schema, source.rows,
            payload=source.payload, positions=source.positions, steps=(self._step(node, recipe, accepted),),
            files=node.files, problems=source.problems, artifacts=self._artifact_inputs(node), licence=found.licence,
            told=found.told, verified=found.verified,
        )  # fmt: skip

    def _selected(self, node: Node, name: str) -> list[Selection]:
        """Rows of one input of a map or expand."""
        view = node.views[name]
        assert not isinstance(view, Mapping)
        selections = self.evaluator.evaluate(view, self._problem)
        if not selections and not self._lost(node):
            raise self._problem(f"reads no rows: '{name}' selects nothing")
        return selections

    def _expanded(
        self, node: Node, selections: list[Selection], partners: list[Selection] | None = None
    ) -> Iterator[Made]:
        """Parents, row table and draw numbers of an expand, by branch."""

        def children(parents: Parents, others: Parents | None) -> Children:
            return node.stage.children(node.config, self._paths(node), parents, others, self.settings.seed)

        empty = True
        for made in expanded(children, selections, partners, node.name, self.plan.names, self._problem):
            empty = False
            yield made
        if empty and not self._lost(node):
            raise self._problem("makes no rows")

    def _derived(
        self,
        node: Node,
        files: Mapping[str, str],
        selection: Selection,
        table: Rows,
        index: NDArray[np.int64] | None = None,
    ) -> Branch:
        inputs: dict[str, Schema] = {}
        for name, side in zip((*node.views, "pair"), selection.sides, strict=False):
            inputs[name] = _with_content(side.branch)
        schema = self._schema(node, inputs)
        recipe, accepted = self._recipe(node, schema, files)
        chain = chain_of(accepted, [side.branch.chain for side in selection.sides])
        steps = (*(step for side in selection.sides for step in side.branch.steps), self._step(node, recipe, accepted))
        several = node.stage.kind is Kind.MAP and len(selection.sides) == 2
        if several and (selection.sides[0].ids != selection.sides[1].ids).any():
            raise self._problem("pairs rows of different ids, but a map keeps the id; pair on id")
        return Branch(
            node.name, node.stage, node.config, chain, recipe, schema, table, selection.sides, index,
            steps=steps, files=node.files, artifacts=self._artifact_inputs(node),
        )  # fmt: skip

    def _look_up(self, branch: Branch) -> None:
        store = self.plan.store
        index = store.index(branch.stage.name, branch.chain, branch.schema)
        self.plan.indices[branch.chain] = index
        branch.have = index.contains(branch.rows.id)
        branch.damaged = list(index.damaged)
        self.old += len(index.old)
        if len(index) and not store.recorded(branch.stage.name, branch.chain):
            self.plan.unrecorded.append(branch)
        gone = self.failed.get(branch.chain)
        branch.failed = np.zeros(len(branch.rows), dtype=bool)
        if gone is not None and len(gone):
            branch.failed = ids.isin(branch.rows.id, gone) & ~branch.have

    def _recall_failures(self, node: Node, branches: list[Branch]) -> None:
        """Count the rows that failed in earlier runs as failed, where that is wanted."""
        failed = []
        for branch in branches:
            before = ids.from_bytes(self.plan.store.failures(branch.stage.name, branch.chain))
            failed.append(branch.failed | (ids.isin(branch.rows.id, before) & ~branch.have))
        lost = sum(int(one.sum()) for one in failed) + sum(len(branch.problems) for branch in branches)
        if self.recorded or lost <= node.max_failed_rows:
            for branch, one in zip(branches, failed, strict=True):
                branch.failed = one

    def _artifact(self, node: Node, files: Mapping[str, str]) -> ArtifactPlan:
        recipe, accepted = self._recipe(node, {}, files)
        views: dict[str, dict[str, list[Selection]]] = {}
        consumed: dict[str, list[tuple[bytes, bytes]]] = {}
        schemas: dict[str, Schema] = {}
        problems: dict[str, str] = {}
        reads = node.stage.reads(node.config, self._models(node))
        for name, view in node.views.items():
            parts = view if isinstance(view, Mapping) else {"": view}
            views[name] = {}
            for label, part in parts.items():
                found, problem = self._read(node, name, part, reads.get(name, ()))
                problems |= {f"{name}.{label}" if label else name: problem} if problem else {}
                if node.stage.kind is Kind.FIT:
                    found = [kept for one in found if len(kept := one.within(node.stage.splits))]
                # By chains and rows: neither the key nor the values depend on the order of a list in the file.
                marked = sorted(((self._consumed(node, one), one) for one in found), key=lambda pair: pair[0])
                found = [one for _, one in marked]
                if not found and not self._lost(node):
                    what = f"'{name}'{f' ({label})' if label else ''} selects nothing"
                    only = f" in {' or '.join(node.stage.splits)}" if node.stage.kind is Kind.FIT else ""
                    raise self._problem(f"reads no rows: {what}{only}")
                views[name][label] = found
                if found:
                    schemas[f"{name}.{label}" if label else name] = common_schema(found)
                consumed[f"{name}/{label}"] = [mark for mark, _ in marked]
        self._check_fields(node, schemas, problems)
        self._check_rows(node, views)
        promise = node.stage.promise(node.config, {**self._models(node), **self._paths(node), **schemas})
        inputs = self._artifact_inputs(node)
        seen = self._splits_seen(node, views, inputs)
        lost = self._lost_rows(node) if node.stage.kind is Kind.REDUCE else []
        told = licences_stated(views) if node.stage.keeps_lineage else []
        consumed |= {name: marks for name, marks in (("failed", lost), ("licences", told)) if marks}
        key = artifact_key(accepted, consumed)
        pin = self.pins.get(node.name)
        made_from = {step["recipe"]: step for step in measured_steps(views)}
        result = ArtifactPlan(
            node, key, recipe, views, inputs, files, seen, pin=pin, promise=promise, made_from=made_from,
            reads=reads, rows_key=artifact_key(digest("reads", recipe.components["config"], reads), consumed),
        )  # fmt: skip
        if result.pin:
            result.key = result.pin.key
            result.found = result.pin.artifact(self.scan)
            result.made_from = result.found.info.get("made_from", {})
            self._compare_pin(result)
            recorded = result.found.info.get("facts", {})  # it may have been made from other settings and rows
            if promise.keys() <= recorded.keys():
                result.promise = {key: recorded[key] for key in promise}
        else:
            result.found = self.plan.store.artifact(node.stage.name, key)
        self.plan.notes += pinned_elsewhere(result)
        return result

    def _read(self, node: Node, name: str, view: View, fields: tuple[str, ...]) -> tuple[list[Selection], str]:
        """Rows of a view of a fit or reduce; a clause where they could not be joined."""
        found, problem = self.evaluator.fitting(view, self._problem, fields, self._alike(node, name)), ""
        if any(len(one.sides) > 1 for one in found):
            raise self._problem(f"reads pairs in '{name}'; fits and reduces read plain views")
        models = [self.plan.artifacts[model] for names in node.artifacts.values() for model in names]
        if len(fields) > 1 and not has_all(found, fields):
            whole, problem = self.joins.of(view, fields, models, self._problem)
            found = whole or found
        elif len(models) > 1 and fields and (again := repeated(found, fields[0])):
            raise self._problem(f"reads rows in '{name}', {again}")
        return list(found), problem

    def _check_fields(self, node: Node, schemas: Mapping[str, Schema], problems: Mapping[str, str]) -> None:
        """A missing feature is an error before anything runs. problems: of views whose rows could not be joined."""
        try:
            self._schema(node, schemas)
        except ConfigError:
            for name, problem in problems.items():
                raise self._problem(f"reads rows in '{name}', {problem}") from None
            raise

    def _alike(self, node: Node, name: str) -> Mapping[str, Any]:
        """Recipes of the rows that the artifact was made from like which a view's rows should be."""
        models = node.artifacts.get(node.stage.inputs[name].like, ())
        return {recipe: step for model in models for recipe, step in self.plan.artifacts[model].made_from.items()}

    def _splits_seen(
        self,
        node: Node,
        views: Mapping[str, Mapping[str, list[Selection]]],
        inputs: Mapping[str, tuple[ArtifactPlan, ...]],
    ) -> frozenset[str]:
        """Splits that went into an artifact, also through artifacts that its rows were made with.

        Raises ConfigError where a fit would learn from a split that it must not see.
        """
        selections = [one for named in views.values() for found in named.values() for one in found]
        own = {SPLITS[code] for one in selections for code in ids.distinct(one.table().split)}
        used = [artifact for found in inputs.values() for artifact in found]
        used += [artifact for one in selections for side in one.sides for artifact in artifacts_of(side.branch)]
        if node.stage.kind is Kind.FIT:
            allowed = node.stage.splits_through or node.stage.splits
            for artifact in used:
                foreign = sorted(artifact.splits_seen - set(allowed))
                if foreign:
                    raise self._problem(
                        f"would learn from {' and '.join(foreign)} rows through '{artifact.node.name}'; make that one "
                        f"from {' and '.join(allowed)} rows only"
                    )
        return frozenset(own).union(*(artifact.splits_seen for artifact in used))

    def _lost_rows(self, node: Node) -> list[tuple[bytes, bytes]]:
        """Failed rows and unreadable files above a reduce, which its report names: (chain, digest)."""
        found = []
        for name in sorted(self.plan.pipeline.select([node.name])):
            for branch in self.plan.branches.get(name, []):
                if branch.failed.any() or branch.problems:
                    gone = rows_digest(branch.rows.id[branch.failed], {})
                    found.append((branch.chain, digest("lost", gone, len(branch.problems))))
        return found

    def _compare_pin(self, artifact: ArtifactPlan) -> None:
        """A pin holds whatever became of the node; say what changed since."""
        assert artifact.found is not None
        name, info = artifact.node.name, artifact.found.info
        if info.get("stage") != artifact.node.stage.name:
            raise self._problem(
                f"is pinned to an artifact of the stage '{info.get('stage')}'; remove the pin, or rename the node"
            )
        changed = [text for cause, text in differences(info.get("recipe", {}), artifact.recipe.components)]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            self.plan.notes.append(f"{name} is pinned although {changed[0]}{more}")

    def _consumed(self, node: Node, selection: Selection) -> tuple[bytes, bytes]:
        columns = {*node.stage.uses_columns, "split"} - {ORIGIN}  # the id and the chain say the origin
        return selection.sides[0].branch.chain, selection.digest(tuple(sorted(columns)), self.plan.names)


def _with_content(branch: Branch) -> Schema:
    """Fields of rows, with the virtual one of files."""
    content = {CONTENT: Field("V0")} if getattr(branch.stage, "content", False) else {}
    return {**branch.schema, **content}
