"""Translations of photographs: which rows there are, what the row table says of them, and what is computed anew."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from toy_photos import NAMES, SIDE, expanded, identity, save
from toy_project import Project

from pipeline.errors import ConfigError
from pipeline.stage import (
    FAKE,
    Children,
    Field,
    Input,
    Kind,
    Parents,
    Stage,
    StageConfig,
    row_setting,
)
from stages.generators import progan, weights
from stages.generators.stargan2_discriminator import Discriminator
from stages.translate import Translate, TranslateConfig, ranked


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save(tmp_path_factory.mktemp("weights") / "star.safetensors")


LATENT = """
nodes:
  photos: {stage: "toy_photos:Photos"}
  fakes: {stage: translate, of: photos, checkpoint: star.safetensors, domains: [cat, dog], per_source: 2}
"""
REFERENCE = """
nodes:
  photos: {stage: "toy_photos:Photos"}
  styles: {stage: "toy_photos:Photos", first: 100, count: 40}
  fakes:
    stage: translate
    of: photos
    references: styles
    checkpoint: star.safetensors
    guide: reference
    domains: [cat, dog]
"""


def project(tmp_path: Path, patch: pytest.MonkeyPatch, checkpoint: Path, text: str) -> Project:
    made = Project(tmp_path, patch, text)
    (tmp_path / "star.safetensors").write_bytes(checkpoint.read_bytes())
    return made


@pytest.fixture
def latent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> Project:
    return project(tmp_path, monkeypatch, checkpoint, LATENT)


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> Project:
    return project(tmp_path, monkeypatch, checkpoint, REFERENCE)


def table(project: Project, *overrides: str, node: str = "fakes") -> dict[bytes, dict[str, Any]]:
    """Id -> row table and parents of a node's rows, from the plan."""
    plan = project.plan(*overrides)
    found = {}
    for branch in plan.branches[node]:
        rows = branch.rows
        for number in range(len(rows)):
            found[rows.id[number].tobytes()] = {
                "label": int(rows.label[number]),
                "split": ("train", "val", "test")[rows.split[number]],
                "group": rows.group[number].tobytes(),
                "domain": plan.names.words[rows.domain[number]],
                "source": plan.names.words[rows.source[number]],
                "parents": tuple(side.ids[number].tobytes() for side in branch.sides),
                "index": None if branch.index is None else int(branch.index[number]),
            }
    return found


def test_each_source_is_translated_to_each_other_domain_as_a_fake_of_its_group(latent: Project) -> None:
    photos, fakes = table(latent, node="photos"), table(latent)
    assert len(fakes) == 12 * 1 * 2  # of two target domains one is the source's own
    for row_id, row in fakes.items():
        (parent,) = row["parents"]
        source = photos[parent]
        assert row["label"] == FAKE
        assert source["label"] == 0
        assert row["group"] == source["group"]
        assert row["split"] == source["split"]
        assert {row["domain"], source["domain"]} == {"cat", "dog"}
        assert row["source"] == "fakes"
        assert row["index"] % 3 == NAMES.index(row["domain"])
        assert row_id == expanded(parent, index=row["index"])
    assert {row["index"] // 3 for row in fakes.values()} == {0, 1}
    own = table(latent, "nodes.fakes.own_domain=true")
    assert len(own) == 12 * 2 * 2
    assert set(fakes) < set(own)
    every = table(latent, "nodes.fakes.domains=[0, 1, 2]")
    assert len(every) == 12 * 2 * 2  # "wild" is nobody's own domain
    assert set(fakes) < set(every)


def test_views_find_fakes_by_their_domain_label_and_node(latent: Project) -> None:
    where = "domain = dog and source = fakes and label = fake"
    latent.write(
        f"{latent.file.read_text()}"
        f"  dogs: {{stage: equalize, size: 32, of: {{of: fakes, where: {where}}}}}\n"
        "  both: {stage: equalize, size: 32, of: [photos, fakes]}\n"
    )
    fakes = table(latent)
    assert set(table(latent, node="dogs")) == {row_id for row_id, row in fakes.items() if row["domain"] == "dog"}
    both = table(latent, node="both")
    assert {row["label"] for row in both.values()} == {0, FAKE}
    assert {row_id: row["group"] for row_id, row in both.items() if row["label"]} == {
        row_id: row["group"] for row_id, row in fakes.items()
    }


class CarelessConfig(StageConfig):
    copies: int = row_setting(1, description="times that each row is made")


class Careless(Stage):
    """An expand that pairs each row with the first partner, whatever its split, and makes `copies` of it."""

    name, kind, Config = "careless", Kind.EXPAND, CarelessConfig
    inputs: ClassVar[Any] = {"of": Input("rows"), "partners": Input("rows", required=False)}

    def schema(self, config: Any, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"image": Field("uint8", (SIDE, SIDE, 3), "sRGB, 0..255")}

    def children(
        self, config: Any, files: Mapping[str, Path], parents: Parents, partners: Parents | None, seed: int
    ) -> Children:
        parent = np.repeat(np.arange(len(parents)), config.copies)
        return Children(parent, parent * 0, None if partners is None else parent * 0)


def test_the_engine_refuses_children_of_two_splits_and_children_that_stand_twice(latent: Project) -> None:
    latent.replace("stage: translate", 'stage: "test_translate:Careless"')
    latent.replace(", checkpoint: star.safetensors, domains: [cat, dog], per_source: 2", "")
    assert len(table(latent)) == 12
    assert {row["label"] for row in table(latent).values()} == {0}  # without a label of their own they stay real
    assert {row["source"] for row in table(latent).values()} == {"photos"}
    refused(latent, "makes the same row twice", "nodes.fakes.copies=2")
    refused(latent, "makes rows of parents in different splits", "nodes.fakes.partners=photos")
    alike = ("nodes.fakes.partners=photos", "nodes.photos.splits=[val]")
    assert {row["parents"][1] for row in table(latent, *alike).values()} == {identity_of_first(latent)}


def identity_of_first(project: Project) -> bytes:
    return project.plan().branches["photos"][0].rows.id[0].tobytes()


def test_more_draws_domains_and_sources_add_rows_and_move_none(latent: Project) -> None:
    before = set(table(latent))
    for override in ("per_source=3", "domains=[dog, wild, cat]"):
        assert before < set(table(latent, f"nodes.fakes.{override}"))
    assert before < set(table(latent, "nodes.photos.count=14"))
    later = set(table(latent, "nodes.fakes.first_draw=1"))
    assert len(later) == len(before) == 2 * len(later & before)


def test_added_sources_compute_their_own_rows_only_and_give_the_bytes_of_a_cold_build(latent: Project) -> None:
    assert latent.run().computed["fakes"] == 24
    latent.replace('"toy_photos:Photos"', '"toy_photos:Photos", count: 15')
    latent.replace("per_source: 2", "per_source: 2, micro_batch: 8")
    assert latent.run().computed["fakes"] == 6
    latent.replace("per_source: 2", "per_source: 3")
    assert latent.run().computed["fakes"] == 15
    grown = latent.rows()
    latent.remove_store()
    latent.run()
    assert latent.rows() == grown
    assert len({value for (node, _, _), value in grown.items() if node == "fakes"}) == 45  # no two images are equal


def test_references_are_of_the_split_and_the_target_domain(reference: Project) -> None:
    photos, styles = table(reference, node="photos"), table(reference, node="styles")
    fakes = table(reference, "nodes.fakes.per_source=3")
    assert len(fakes) == 12 * 3
    for row_id, row in fakes.items():
        source, style = photos[row["parents"][0]], styles[row["parents"][1]]
        assert row["split"] == source["split"] == style["split"]
        assert row["domain"] == style["domain"] != source["domain"]
        assert (row["label"], row["source"]) == (FAKE, "fakes")
        assert row["group"] == source["group"]
        assert row_id == expanded(*row["parents"], index=NAMES.index(row["domain"]))
    assert len({row["parents"] for row in fakes.values()}) == 36  # a source's references differ
    fewer = table(reference, "nodes.fakes.per_source=2")
    assert set(fewer) < set(fakes)
    assert set(table(reference, "nodes.fakes.per_source=2", "nodes.fakes.first_draw=1")) < set(fakes)


def test_a_new_reference_changes_no_row_but_those_that_it_wins(reference: Project) -> None:
    counts = ("nodes.photos.count=200", "nodes.fakes.per_source=2")
    before = table(reference, *counts)
    after = table(reference, *counts, "nodes.styles.count=41")
    new = set(after) - set(before)
    assert all(after[row]["parents"][1] == identity(140) for row in new)
    assert len(new) == len(set(before) - set(after))
    assert 2 <= len(new) <= 25  # expected: 50 sources of its split and the other domain, 2 of then 11 references


def test_only_the_rows_of_a_new_reference_are_computed_and_bytes_are_those_of_a_cold_build(reference: Project) -> None:
    assert reference.run().computed["fakes"] == 12
    before = set(table(reference))
    reference.replace("count: 40", "count: 60")
    new = set(table(reference)) - before
    assert 0 < len(new) < 12
    assert reference.run().computed["fakes"] == len(new)
    grown = reference.rows()
    reference.remove_store()
    reference.run()
    gone = before - set(table(reference))
    assert reference.rows() == {key: value for key, value in grown.items() if key[1] not in gone}


def test_references_of_several_nodes_are_one_set(reference: Project) -> None:
    whole = table(reference, "nodes.photos.count=60")
    text = reference.file.read_text()
    reference.write(
        text.replace("count: 40}", 'count: 20}\n  others: {stage: "toy_photos:Photos", first: 120, count: 20}').replace(
            "references: styles", "references: [others, styles]"
        )
    )
    parted = table(reference, "nodes.photos.count=60")
    assert {row["parents"] for row in parted.values()} == {row["parents"] for row in whole.values()}
    assert set(parted) == set(whole)
    assert reference.run().computed["fakes"] == 12


def test_ranks_are_those_of_a_slow_loop_and_leave_the_source_out() -> None:
    sources, references = ([identity(n) for n in numbers] for numbers in (range(5, 30), range(20)))
    columns = [np.frombuffer(b"".join(rows), "V16") for rows in (sources, references)]
    found = ranked(columns[0], columns[1], 19, seed=4)
    everything = ranked(columns[0], columns[1], 20, seed=4)
    assert np.array_equal(everything[:, :19], found)
    for row, source in enumerate(sources):
        own = references.index(source) if source in references else None
        assert everything[row, 19] == -1 if own is not None else sorted(everything[row]) == list(range(20))
        assert own not in found[row]
        for left_out in range(20):  # without one reference the others keep their order
            kept = np.delete(columns[1], left_out)
            shorter = ranked(columns[0][row : row + 1], kept, 18, seed=4)[0]
            expected = [number - (number > left_out) for number in everything[row] if number not in (left_out, -1)]
            assert shorter.tolist()[: len(expected)][:18] == expected[:18]
    assert not np.array_equal(ranked(columns[0], columns[1], 3, seed=5), found[:, :3])


def test_references_are_used_evenly() -> None:
    sources, references = ([identity(n) for n in numbers] for numbers in (range(2000), range(5000, 5010)))
    columns = [np.frombuffer(b"".join(rows), "V16") for rows in (sources, references)]
    counts = np.bincount(ranked(columns[0], columns[1], 1, seed=0)[:, 0], minlength=10)
    assert 150 < counts.min() <= counts.max() < 250  # 200 expected, standard deviation 13


def refused(project: Project, sentence: str, *overrides: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        project.plan(*overrides)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("fakes.domains=[lion]", "domains names 'lion', which the network does not have; it has cat, dog, wild"),
        ("fakes.domains=[3]", "domains names 3, which the network does not have"),
        ("fakes.domains=[dog, 1]", "domains names 'dog' twice"),
        ("fakes.names=[cat, dog]", "names are cat, dog; .*star.safetensors has 3 domains"),
        ("fakes.names=[cat, dog, dog]", "names are cat, dog, dog, expected different ones"),
        ("fakes.guide=reference", "'references' is missing; guide: reference needs it"),
        ("fakes.references=photos", "'references' is given; guide: latent makes no use of it"),
        ("photos.label=1", "12 rows of 'of' are fake; photographs are wanted"),
        ("photos.domains=[cat, lion]", "'of' has rows of the domain 'lion', but the network's are cat, dog, wild"),
        ('photos.stage="toy_photos:LargePhotos"', "found .64, 64, 3. uint8; put equalize with size: 32 before it"),
        ("photos.domains=[cat]; fakes.domains=[cat]", "makes no rows"),
    ],
)
def test_what_cannot_be_translated_is_said_in_one_sentence(latent: Project, override: str, sentence: str) -> None:
    refused(latent, sentence, *(f"nodes.{one.strip()}" for one in override.split(";")))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("fakes.per_source=11", "has 10 rows of the domain 'dog' in the split train; 11 are needed for each source"),
        ("styles.splits=[train]", "has 0 rows of the domain '(cat|dog)' in the split test; 1 are needed"),
        ("fakes.truncation_psi=0.5", "truncation_psi has no effect with guide: reference"),
        ("styles.label=1", "40 rows of 'references' are fake"),
        ("fakes.references={of: styles, pair: styles}", "reads pairs in one of its inputs"),
    ],
)
def test_references_that_do_not_suffice_are_named(reference: Project, override: str, sentence: str) -> None:
    if "per_source" in override:
        sentence = sentence.replace("'dog'", "'(cat|dog)'").replace("train", "(train|test)")
    refused(reference, sentence, f"nodes.{override}")


def test_names_and_own_domain_open_a_network_to_rows_of_other_words(latent: Project) -> None:
    words = "nodes.photos.domains=[Katze, Hund]"
    renamed = table(latent, words, "nodes.fakes.names=[Katze, Hund, wild]", "nodes.fakes.domains=[0, 1]")
    assert {row["domain"] for row in renamed.values()} == {"Katze", "Hund"}
    assert set(renamed) == set(table(latent))  # words are no part of a row
    assert len(table(latent, words, "nodes.fakes.own_domain=true")) == 12 * 2 * 2


def test_weights_without_names_number_their_domains(tmp_path: Path) -> None:
    path = save(tmp_path / "plain.safetensors", domains=())
    rows = Parents(*(np.zeros(2, kind) for kind in ("V16", np.uint8, "U5", "U5", "V16", np.int64)))
    config = TranslateConfig(checkpoint="x", domains=[2, "0"])
    made = Translate().children(config, {"checkpoint": path}, rows, None, 0)
    assert made.domain == ["2", "0", "2", "0"]
    assert made.index.tolist() == [2, 0, 2, 0]


def test_a_plan_says_once_that_masks_are_missing(latent: Project) -> None:
    path = latent.folder / "star.safetensors"
    assert not latent.plan().notes
    save(path, w_hpf=1.0)
    (note,) = latent.plan().notes
    assert re.fullmatch(r"fakes: \S*star\.safetensors has no masks: .* no edges of the source are kept; put .*", note)


def test_other_networks_are_refused(tmp_path: Path) -> None:
    judge: dict[str, Any] = {"resolution": SIDE, "c_dim": 2, "width": 4, "max_width": 8}
    tensors = {name: tensor.detach().numpy() for name, tensor in Discriminator(**judge).state_dict().items()}
    path = tmp_path / "judge.safetensors"
    weights.save(path, "stargan2", judge, tensors, network="discriminator")
    with pytest.raises(ValueError, match="holds a discriminator; give the weights of a generator"):
        Translate().check(TranslateConfig(checkpoint="x"), {"checkpoint": path})


def test_generators_of_other_families_name_the_other_stage(tmp_path: Path) -> None:
    architecture: dict[str, Any] = {"z_dim": 4, "c_dim": 0, "resolution": 8, "fmap_base": 16, "fmap_max": 4}
    tensors = {name: tensor.detach().numpy() for name, tensor in progan.Generator(**architecture).state_dict().items()}
    weights.save(tmp_path / "progan.safetensors", "progan", architecture, tensors)
    with pytest.raises(ValueError, match="is of family progan; use the stage sample"):
        Translate().check(TranslateConfig(checkpoint="x"), {"checkpoint": tmp_path / "progan.safetensors"})
