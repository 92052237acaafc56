"""Translations of photographs: which rows there are, what the row table says of them, and that bytes are their own."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import Golden
from toy_project import Project

from pipeline.errors import ConfigError, StageError
from pipeline.stage import (
    FAKE,
    Batch,
    Children,
    Context,
    Field,
    Input,
    Kind,
    Parents,
    SourceRows,
    Stage,
    StageConfig,
    row_setting,
)
from stages.generators import progan, stargan2, weights
from stages.generators.stargan2_discriminator import Discriminator
from stages.sample import Sample, SampleConfig
from stages.translate import Translate, TranslateConfig, ranked

SIDE = 32
ARCHITECTURE: dict[str, Any] = {
    "resolution": SIDE, "z_dim": 4, "w_dim": 8, "c_dim": 3, "width": 4, "max_width": 8, "mapping_width": 16
}  # fmt: skip
NAMES = ("cat", "dog", "wild")


def identity(number: int) -> bytes:
    return hashlib.sha256(f"photo {number}".encode()).digest()[:16]


def photo(row_id: bytes) -> np.ndarray[Any, Any]:
    return np.random.default_rng(list(row_id)).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


class PhotosConfig(StageConfig):
    count: int = row_setting(12, description="rows")
    first: int = row_setting(0, description="first number")
    label: int = row_setting(0, description="label")
    domains: list[str] = row_setting(["cat", "dog"], description="domain of row n: number n modulo their count")
    splits: list[str] = row_setting(["train", "test"], description="likewise, changing more slowly")


class Photos(Stage):
    """Noise instead of photographs; groups of one."""

    name, kind, Config = "photos", Kind.SOURCE, PhotosConfig
    side: ClassVar[int] = SIDE

    def schema(self, config: PhotosConfig, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"image": Field("uint8", (self.side, self.side, 3), "sRGB, 0..255")}

    def discover(self, config: PhotosConfig, scan: Any) -> SourceRows:
        numbers = range(config.first, config.first + config.count)
        return SourceRows(
            np.frombuffer(b"".join(identity(number) for number in numbers), "V16"),
            config.label,
            [f"person {number}" for number in numbers],
            [config.splits[number // len(config.domains) % len(config.splits)] for number in numbers],
            [config.domains[number % len(config.domains)] for number in numbers],
        )

    def compute(self, config: PhotosConfig, batch: Batch, ctx: Context) -> dict[str, Any]:
        return {"image": np.stack([photo(bytes(row)) for row in batch.ids])}


class LargePhotos(Photos):
    side: ClassVar[int] = 2 * SIDE


def save(path: Path, domains: tuple[str, ...] = NAMES, **more: Any) -> Path:
    """A StarGAN2 with random weights whose styles show."""
    torch.manual_seed(3)
    generator = stargan2.Generator(**{**ARCHITECTURE, **more})
    tensors = {name: tensor.detach().numpy().copy() for name, tensor in generator.state_dict().items()}
    for name in tensors:
        if name.startswith("generator.") and name.endswith("fc.weight"):
            tensors[name] *= 3
    weights.save(path, "stargan2", {**ARCHITECTURE, **more}, tensors, domains=domains)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save(tmp_path_factory.mktemp("weights") / "star.safetensors")


LATENT = """
nodes:
  photos: {stage: "test_translate:Photos"}
  fakes: {stage: translate, of: photos, checkpoint: star.safetensors, domains: [cat, dog], per_source: 2}
"""
REFERENCE = """
nodes:
  photos: {stage: "test_translate:Photos"}
  styles: {stage: "test_translate:Photos", first: 100, count: 40}
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


def expanded(*parents: bytes, index: int) -> bytes:
    text = b"touchstone/expand" + len(parents).to_bytes(8, "little") + b"".join(parents) + index.to_bytes(8, "little")
    return hashlib.sha256(text).digest()[:16]


def images(
    checkpoint: Path, rows: list[tuple[bytes, int]], references: list[bytes] | None = None, **settings: Any
) -> np.ndarray[Any, Any]:
    """Images of (source, index), computed by the stage without an engine."""
    config = TranslateConfig(checkpoint="given", guide="reference" if references else "latent", **settings)
    parents = [[source for source, _ in rows], references or []]
    given = [tuple(found) for found in parents if found]
    own = [expanded(*(column[number] for column in given), index=index) for number, (_, index) in enumerate(rows)]
    batch = Batch(
        np.frombuffer(b"".join(own), "V16"),
        tuple(np.frombuffer(b"".join(column), "V16") for column in given),
        tuple({"image": np.stack([photo(one) for one in column])} for column in given),
        np.array([index for _, index in rows], dtype=np.int64),
    )
    return Translate().compute(config, batch, Context(7, "translate", files={"checkpoint": checkpoint}))["image"]


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
    latent.replace('"test_translate:Photos"', '"test_translate:Photos", count: 15')
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
    assert reference.rows() == {
        key: value for key, value in grown.items() if key[1] not in before - set(table(reference))
    }


def test_references_of_several_nodes_are_one_set(reference: Project) -> None:
    whole = table(reference, "nodes.photos.count=60")
    text = reference.file.read_text()
    reference.write(
        text.replace(
            "count: 40}", 'count: 20}\n  others: {stage: "test_translate:Photos", first: 120, count: 20}'
        ).replace("references: styles", "references: [others, styles]")
    )
    parted = table(reference, "nodes.photos.count=60")
    assert {row["parents"] for row in parted.values()} == {row["parents"] for row in whole.values()}
    assert set(parted) == set(whole)
    assert reference.run().computed["fakes"] == 12


@pytest.mark.parametrize("guide", ["latent", "reference"])
@pytest.mark.parametrize("micro_batch", [1, 4])
def test_bytes_of_a_row_do_not_depend_on_neighbors_or_position(checkpoint: Path, guide: str, micro_batch: int) -> None:
    rows = [(identity(number), number % 5) for number in range(9)]
    styles = [identity(50 + number) for number in range(9)]

    def made(which: list[int]) -> np.ndarray[Any, Any]:
        chosen = [styles[number] for number in which] if guide == "reference" else None
        return images(checkpoint, [rows[number] for number in which], chosen, micro_batch=micro_batch)

    alone = [made([number])[0] for number in range(9)]
    for which in (list(range(9)), [8, 1, 1, 5, 0, 3]):
        for number, image in zip(which, made(which), strict=True):
            assert np.array_equal(image, alone[number])


def floats(row_id: bytes) -> torch.Tensor:
    image = torch.from_numpy(photo(row_id)).permute(2, 0, 1)[None]
    return (image.float() / 255 - 0.5) / 0.5


@pytest.mark.parametrize("psi", [1.0, 0.5])
def test_an_image_is_the_network_of_source_domain_and_drawn_latent(checkpoint: Path, psi: float) -> None:
    generator: Any = weights.load(checkpoint)[1]
    source, index = identity(4), 7  # draw 2 of domain 1
    row_id = expanded(source, index=index)
    latent = Context(7, "translate").rng(row_id, "latent").standard_normal(4)
    domain = torch.tensor([index % 3])
    with torch.no_grad():
        style = generator.mapping_network(torch.from_numpy(latent).float()[None], domain)
        if psi != 1:
            many = torch.from_numpy(np.random.RandomState(0).randn(10_000, 4)).float()
            mean = generator.mapping_network(many, domain.expand(10_000)).mean(dim=0)
            style = mean + psi * (style - mean)
        raw = generator.generator(floats(source), style)[0].permute(1, 2, 0).numpy()
    expected = np.floor(np.clip((raw + 1) / 2, 0, 1) * 255 + 0.5)
    found = images(checkpoint, [(source, index)], truncation_psi=psi)[0]
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.99


def test_a_reference_gives_the_style_of_the_encoder(checkpoint: Path) -> None:
    generator: Any = weights.load(checkpoint)[1]
    source, style = identity(4), identity(9)
    with torch.no_grad():
        encoded = generator.style_encoder(floats(style), torch.tensor([2]))
        raw = generator.generator(floats(source), encoded)[0].permute(1, 2, 0).numpy()
    expected = np.floor(np.clip((raw + 1) / 2, 0, 1) * 255 + 0.5)
    found = images(checkpoint, [(source, 2)], [style])[0]
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.99
    assert not np.array_equal(found, images(checkpoint, [(source, 2)], [identity(10)])[0])


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
        ('photos.stage="test_translate:LargePhotos"', "found .64, 64, 3. uint8; put equalize with size: 32 before it"),
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
        ("fakes.references={of: styles, pair: styles}", "reads pairs in one of of and references"),
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
    rows = Parents(*(np.zeros(2, kind) for kind in ("V16", np.uint8, "U5", "U5")))
    config = TranslateConfig(checkpoint="x", domains=[2, "0"])
    made = Translate().children(config, {"checkpoint": path}, rows, None, 0)
    assert made.domain == ["2", "0", "2", "0"]
    assert made.index.tolist() == [2, 0, 2, 0]


def test_other_networks_are_refused(tmp_path: Path) -> None:
    judge: dict[str, Any] = {"resolution": SIDE, "c_dim": 2, "width": 4, "max_width": 8}
    tensors = {name: tensor.detach().numpy() for name, tensor in Discriminator(**judge).state_dict().items()}
    path = tmp_path / "judge.safetensors"
    weights.save(path, "stargan2", judge, tensors, network="discriminator")
    with pytest.raises(ValueError, match="holds a discriminator; give the weights of a generator"):
        Translate().check(TranslateConfig(checkpoint="x"), {"checkpoint": path})


def test_weights_that_make_no_numbers_are_reported(checkpoint: Path, tmp_path: Path) -> None:
    _, generator = weights.load(checkpoint)
    tensors = {name: tensor.numpy().copy() for name, tensor in generator.state_dict().items()}
    tensors["generator.to_rgb.2.bias"][:] = 3e38
    tensors["generator.to_rgb.2.weight"][:] = 3e38
    weights.save(tmp_path / "huge.safetensors", "stargan2", ARCHITECTURE, tensors)
    with pytest.raises(StageError, match="makes values that are not finite"):
        images(tmp_path / "huge.safetensors", [(identity(1), 0)])


class GivenLatents(Context):
    """A context whose draws are those of a golden file, row by row."""

    latents: np.ndarray[Any, Any]

    def rng(self, row_id: Any, draw: str) -> Any:
        number = int.from_bytes(bytes(row_id), "little")
        return SimpleNamespace(standard_normal=lambda width: self.latents[number, :width])


def unpacked(npz: Path, folder: Path) -> Path:
    """The checkpoint beside a golden file."""
    (path,) = (one for one in npz.parent.glob(f"{npz.stem}.*") if one.suffix not in (".npz", ".md"))
    if path.suffix != ".gz":
        return path
    (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    return folder / path.stem


@pytest.mark.golden("generators", "stargan2_*.npz")
def test_an_official_checkpoint_gives_the_images_of_its_authors(golden: Golden, tmp_path: Path) -> None:
    path = unpacked(golden.path, tmp_path)
    own = np.frombuffer(b"".join(number.to_bytes(16, "little") for number in range(len(golden["z"]))), "V16")
    sources, references = (golden[name].transpose(0, 2, 3, 1) for name in ("x_src_uint8", "x_ref_uint8"))
    context = GivenLatents(0, "translate", files={"checkpoint": path})
    context.latents = golden["z"].astype(np.float64)
    compared = 0
    for guide, inputs in (("latent", [sources]), ("reference", [sources, references])):
        config = TranslateConfig(checkpoint="given", guide=guide, micro_batch=2)  # type: ignore[arg-type]
        Translate().check(config, {"checkpoint": path})
        batch = Batch(own, (own,) * len(inputs), tuple({"image": one} for one in inputs), golden["y_trg"])
        found = Translate().compute(config, batch, context)["image"]
        for key in golden.keys():  # noqa: SIM118
            match = re.fullmatch(rf"(image|uint8)_{guide}_(\d+)(?:_stride(\d+))?", key)
            if match is None:
                continue
            step = int(match[3] or 1)
            expected = golden[key][0].transpose(1, 2, 0)
            if match[1] == "image":
                expected = np.floor(np.clip((expected + 1) / 2, 0, 1) * np.float32(255) + np.float32(0.5))
            difference = np.abs(found[int(match[2]), ::step, ::step].astype(int) - expected)
            assert difference.max() <= 1, key
            assert (difference == 0).mean() >= 0.995, key
            compared += 1
    assert compared >= 2


@pytest.mark.golden("generators", "stargan2_*.npz")
def test_sample_names_the_stage_for_an_official_stargan2(golden: Golden, tmp_path: Path) -> None:
    path = unpacked(golden.path, tmp_path)
    with pytest.raises(ValueError, match="is a StarGAN2, which changes photographs; use the stage translate"):
        Sample().check(SampleConfig(checkpoint="x", count=1), {"checkpoint": path})


def test_generators_of_other_families_name_the_other_stage(tmp_path: Path) -> None:
    architecture: dict[str, Any] = {"z_dim": 4, "c_dim": 0, "resolution": 8, "fmap_base": 16, "fmap_max": 4}
    tensors = {name: tensor.detach().numpy() for name, tensor in progan.Generator(**architecture).state_dict().items()}
    weights.save(tmp_path / "progan.safetensors", "progan", architecture, tensors)
    with pytest.raises(ValueError, match="is no StarGAN2 but of family progan; use the stage sample"):
        Translate().check(TranslateConfig(checkpoint="x"), {"checkpoint": tmp_path / "progan.safetensors"})
