"""The source of fakes: ids, protocol, bytes that do not depend on neighbors, settings, and what a run computes."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import Golden
from toy_project import Project

from pipeline.errors import StageError
from pipeline.planning.closure import closure
from pipeline.stage import FAKE, Batch, Context, Field
from stages import GENERATORS
from stages.generators import generator_file, weights
from stages.generators.families import FAMILIES
from stages.sample import AHEAD, Sample, SampleConfig, drawn_ahead, layers
from stages.training.networks import in_micro_batches

TINY: dict[str, dict[str, Any]] = {
    "progan": {"z_dim": 6, "c_dim": 0, "resolution": 8, "fmap_base": 64, "fmap_max": 8},
    "stylegan": {"z_dim": 6, "c_dim": 0, "w_dim": 5, "resolution": 8, "fmap_base": 64, "fmap_max": 8,
                 "mapping_layers": 2, "mapping_features": 7},
    "stylegan2": {"z_dim": 6, "c_dim": 0, "w_dim": 6, "resolution": 8, "channel_base": 128, "channel_max": 8},
    "sngan": {"z_dim": 6, "c_dim": 0, "resolution": 8, "ch": 4, "upsampling": "bicubic"},
    "dcgan": {"z_dim": 6, "c_dim": 0, "resolution": 8, "width": 4, "last": "stacked"},
}  # fmt: skip
STYLED = ("stylegan", "stylegan2")
ARCHITECTURE = {"z_dim": 6, "c_dim": 0, "w_dim": 6, "resolution": 16, "channel_base": 128, "channel_max": 12}


def save(path: Path, **more: int) -> Path:
    """A StyleGAN2 with random weights and noticeable noise."""
    return save_family(path, "stylegan2", {**ARCHITECTURE, **more})


def save_family(
    path: Path, family: str, architecture: dict[str, Any], seed: int = 0, truncation: dict[str, Any] | None = None
) -> Path:
    """A generator of a family with random weights, noticeable noise and an average style."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = import_module(f"stages.generators.{family}").Generator(**architecture)
    tensors = {name: tensor.detach().numpy().copy() for name, tensor in generator.state_dict().items()}
    for name in tensors:
        if name.endswith(("noise_strength", "w_avg")):
            tensors[name] += np.float32(0.5)
    weights.save(path, family, architecture, tensors, truncation)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("weights") / "small.safetensors")


def images(path: Path, seeds: list[int], **settings: Any) -> np.ndarray[Any, Any]:
    config = SampleConfig(checkpoint="given", count=1, **settings)
    context = Context(seed=0, stage="sample", files={"checkpoint": path})
    batch = Batch(ids=np.zeros(len(seeds), "V16"), payload={"seed": np.array(seeds, np.int64)})
    return Sample().compute(config, batch, context)["image"]


def test_ids_and_groups_are_digests_of_the_seed_alone() -> None:
    rows = Sample().discover(SampleConfig(checkpoint="a", seeds=40, count=5), None)
    other = Sample().discover(SampleConfig(checkpoint="b", seeds=44, count=2, truncation_psi=0.5), None)
    parts = (b"touchstone/seed", b"sample", b"41")
    text = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    assert rows.id[1].tobytes() == hashlib.sha256(text).digest()[:16]
    assert rows.id[1].tobytes().hex() == "86de05d3f8f798ff5a3c47a3ecdae165"
    assert rows.group is not None
    assert other.group is not None
    assert rows.group[1].tobytes().hex() == "f65b98696f7aa32fe69511c65ea8224e"  # type: ignore[union-attr]
    assert rows.id[4] == other.id[0]
    assert rows.group[4] == other.group[0]  # the same latent in two generators
    assert rows.label == FAKE
    assert rows.payload["seed"].tolist() == [40, 41, 42, 43, 44]
    assert len(np.unique(rows.id)) == len(np.unique(rows.group)) == 5


def test_many_seeds_are_found_with_little_memory() -> None:
    rows = Sample().discover(SampleConfig(checkpoint="a", count=100_000), None)
    assert rows.id.nbytes == 1_600_000
    assert rows.payload["seed"].nbytes == 800_000
    assert len(set(rows.id.tolist())) == 100_000


def test_an_image_is_the_official_protocol_of_its_seed(checkpoint: Path) -> None:
    _, generator = weights.load(checkpoint)
    state = np.random.RandomState(3)
    z = torch.from_numpy(state.randn(1, 6).astype(np.float32))
    noise = [torch.from_numpy(state.randn(1, 1, side, side).astype(np.float32)) for side in (4, 8, 8, 16, 16)]
    for psi, cutoff in ((1.0, None), (0.6, 3)):
        raw = generator(z, psi=psi, cutoff=cutoff, noise=noise)[0].permute(1, 2, 0).numpy()
        expected = np.clip(raw * np.float32(127.5) + 128, 0, 255).astype(np.uint8)
        found = images(checkpoint, [3], truncation_psi=psi, truncation_cutoff=cutoff)[0]
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert (found == expected).mean() > 0.995


def test_noise_modes_differ_and_constant_noise_is_the_stored_one(checkpoint: Path) -> None:
    modes = {mode: images(checkpoint, [1], noise=mode) for mode in ("per-seed", "const", "none")}
    assert not np.array_equal(modes["per-seed"], modes["const"])
    assert not np.array_equal(modes["const"], modes["none"])


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_bytes_of_a_row_do_not_depend_on_neighbors_or_position(checkpoint: Path, micro_batch: int) -> None:
    seeds = list(range(20))
    alone = {seed: images(checkpoint, [seed], micro_batch=micro_batch)[0] for seed in seeds}
    random = np.random.default_rng(1)
    for chosen in (seeds, seeds[::-1], random.permutation(20)[:11].tolist(), [7, 7, 7]):
        found = images(checkpoint, chosen, micro_batch=micro_batch)
        for position, seed in enumerate(chosen):
            assert np.array_equal(found[position], alone[seed]), (seed, position)


def test_labels_choose_the_class_of_a_conditional_generator(tmp_path: Path) -> None:
    path = save(tmp_path / "conditional.safetensors", c_dim=3)
    first, second = (images(path, [0], label_index=index) for index in (0, 1))
    assert not np.array_equal(first, second)
    files = {"checkpoint": path}
    Sample().check(SampleConfig(checkpoint="x", count=1, label_index=2), files)
    with pytest.raises(ValueError, match="is conditional; label_index is 3, expected 0 to 2"):
        Sample().check(SampleConfig(checkpoint="x", count=1, label_index=3), files)
    with pytest.raises(ValueError, match="is conditional; label_index is None"):
        Sample().check(SampleConfig(checkpoint="x", count=1), files)


def test_settings_without_effect_and_impossible_ones_are_refused(checkpoint: Path) -> None:
    files = {"checkpoint": checkpoint}
    with pytest.raises(ValueError, match="unconditional, so label_index 1 has no effect"):
        Sample().check(SampleConfig(checkpoint="x", count=1, label_index=1), files)
    with pytest.raises(ValueError, match=r"truncation_cutoff is 7; .* has 6 layers"):
        Sample().check(SampleConfig(checkpoint="x", count=1, truncation_psi=0.5, truncation_cutoff=7), files)
    with pytest.raises(ValueError, match="no effect at truncation_psi 1"):
        SampleConfig(checkpoint="x", count=1, truncation_cutoff=2)
    with pytest.raises(ValueError, match="seeds must be below 4294967296"):
        SampleConfig(checkpoint="x", count=2, seeds=2**32 - 1)
    with pytest.raises(ValueError, match="fractions of train, val, test that add up to 1"):
        SampleConfig(checkpoint="x", count=1, splits={"train": 0.5, "test": 0.6})


def test_schema_comes_from_the_header_without_torch(checkpoint: Path) -> None:
    assert Sample().schema(SampleConfig(checkpoint="x", count=1), {"checkpoint": checkpoint}) == {
        "image": Field("uint8", (16, 16, 3), "sRGB, 0..255", ("row", "column", "channel"))
    }
    code = (
        "import sys; from pathlib import Path; from stages.sample import Sample, SampleConfig\n"
        "config = SampleConfig(checkpoint='x', count=3)\n"
        f"files = {{'checkpoint': Path({str(checkpoint)!r})}}\n"
        "Sample().schema(config, files); Sample().check(config, files); Sample().discover(config, None)\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_weights_that_make_no_numbers_are_reported(tmp_path: Path) -> None:
    path = save(tmp_path / "huge.safetensors")
    _, generator = weights.load(path)
    tensors = {name: tensor.numpy().copy() for name, tensor in generator.state_dict().items()}
    tensors["synthesis.b4.const"][:] = 3e38  # finite itself, infinite after the first convolution
    weights.save(path, "stylegan2", ARCHITECTURE, tensors)
    with pytest.raises(StageError, match="makes values that are not finite"):
        images(path, [0])


def test_micro_batches_are_full_and_results_keep_their_order() -> None:
    shapes = []

    def double(rows: Any) -> np.ndarray[Any, Any]:
        shapes.append(rows["x"].tolist())
        return rows["x"] * 2

    found = in_micro_batches(double, {"x": np.arange(7)}, 3)
    assert found.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert shapes == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]
    with pytest.raises(ValueError, match="arrays of one length above 0"):
        in_micro_batches(double, {"x": np.arange(0)}, 3)
    with pytest.raises(ValueError, match="a function of 3 rows returned 1"):
        in_micro_batches(lambda rows: rows["x"][:1], {"x": np.arange(2)}, 3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A generator of 8 pixels of each family that draws images."""
    folder = tmp_path_factory.mktemp("tiny")
    suggested = {family: {"psi": 0.6, "cutoff": 3} if family in STYLED else None for family in TINY}
    return {
        family: save_family(folder / f"{family}.safetensors", family, given, truncation=suggested[family])
        for family, given in TINY.items()
    }


def test_every_family_that_draws_images_is_tested(tiny: Mapping[str, Path]) -> None:
    others = {"mfa", "glow"}  # which have tests of their own: what they draw is no z
    assert {*tiny, *others} == {family for family in GENERATORS if FAMILIES[family].maker == "sample"}


@pytest.mark.parametrize("family", TINY)
def test_a_family_gives_the_image_of_its_seed_by_its_own_rule(tiny: Mapping[str, Path], family: str) -> None:
    """z, then noise maps in stored order, from one RandomState; ProGAN rounds half to even, the others truncate."""
    generator: Any = weights.load(tiny[family])[1]
    state = np.random.RandomState(11)
    z = torch.from_numpy(state.randn(1, 6).astype(np.float32))
    sides = {"stylegan": (4, 4, 8, 8), "stylegan2": (4, 8, 8)}.get(family, ())
    noise = [torch.from_numpy(state.randn(1, 1, side, side).astype(np.float32)) for side in sides]
    with torch.no_grad():
        raw = (generator(z, noise=noise) if sides else generator(z))[0].permute(1, 2, 0).numpy()
    levels = raw * np.float32(127.5) + np.float32(128 if family in STYLED else 127.5)
    expected = np.clip(np.rint(levels) if family == "progan" else levels, 0, 255).astype(np.uint8)
    found = images(tiny[family], [11])[0]
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.99


@pytest.mark.parametrize("family", TINY)
def test_bytes_of_every_family_do_not_depend_on_neighbors(tiny: Mapping[str, Path], family: str) -> None:
    alone = [images(tiny[family], [seed])[0] for seed in range(10)]
    for chosen in (list(range(10)), [9, 4, 4, 0]):
        assert np.array_equal(images(tiny[family], chosen), np.stack([alone[seed] for seed in chosen]))


@pytest.mark.parametrize("family", STYLED)
def test_default_truncation_is_what_the_checkpoint_suggests(tiny: Mapping[str, Path], family: str) -> None:
    stated = images(tiny[family], [0, 1], truncation_psi=0.6, truncation_cutoff=3)
    assert np.array_equal(images(tiny[family], [0, 1], truncation_psi="default"), stated)
    assert not np.array_equal(images(tiny[family], [0, 1]), stated)
    assert not np.array_equal(images(tiny[family], [0, 1], truncation_psi=0.6), stated)
    with pytest.raises(ValueError, match="truncation_cutoff has no effect at truncation_psi default"):
        SampleConfig(checkpoint="x", count=1, truncation_psi="default", truncation_cutoff=2)


@pytest.mark.parametrize("family", TINY)
def test_layers_without_torch_are_those_of_the_network(tiny: Mapping[str, Path], family: str) -> None:
    header, module = weights.read_header(tiny[family]), import_module(f"stages.generators.{family}")
    assert layers(header) == module.styles(header.architecture)
    assert bool(layers(header)) == bool(module.NOISES)


def test_a_generator_without_styles_refuses_truncation_and_stored_noise(tiny: Mapping[str, Path]) -> None:
    files = {"checkpoint": tiny["progan"]}
    with pytest.raises(ValueError, match="has no styles to truncate; drop truncation_psi, which is"):
        Sample().check(SampleConfig(checkpoint="x", count=1, truncation_psi=0.7), files)
    with pytest.raises(ValueError, match="has no stored noise maps, so noise: const is not possible"):
        Sample().check(SampleConfig(checkpoint="x", count=1, noise="const"), files)
    Sample().check(SampleConfig(checkpoint="x", count=1, truncation_psi="default", noise="none"), files)
    assert np.array_equal(images(tiny["progan"], [3], noise="none"), images(tiny["progan"], [3]))


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    from stages.generators.stylegan2_discriminator import Discriminator

    judge: dict[str, Any] = {"c_dim": 0, "resolution": 8, "channel_base": 64, "channel_max": 8}
    tensors = {name: tensor.detach().numpy() for name, tensor in Discriminator(**judge).state_dict().items()}
    weights.save(tmp_path / "judge.safetensors", "stylegan2", judge, tensors, network="discriminator")
    gray = save_family(tmp_path / "gray.safetensors", "progan", {**TINY["progan"], "colors": 1})
    star = {"resolution": 32, "z_dim": 4, "w_dim": 4, "c_dim": 2, "width": 2, "max_width": 2, "mapping_width": 4}
    save_family(tmp_path / "star.safetensors", "stargan2", star)
    for path, sentence in (
        (tmp_path / "judge.safetensors", "holds a discriminator; give the weights of a generator"),
        (tmp_path / "star.safetensors", "is of family stargan2; use the stage translate"),
        (gray, "makes images of 1 colors, expected RGB"),
    ):
        with pytest.raises(ValueError, match=sentence) as caught:
            Sample().check(SampleConfig(checkpoint="x", count=1), {"checkpoint": path})
        assert str(path) in str(caught.value)


def foreign(family: str) -> set[str]:
    """Modules of other families; StyleGAN is a ProGAN with another generator and takes its growing from there."""
    own = {family, "progan"} if family == "stylegan" else {family}
    others = [other for other in GENERATORS if other not in own]
    return {f"stages.generators.{other}{end}" for other in others for end in ("", "_official", "_discriminator")}


@pytest.mark.parametrize("family", TINY)
def test_a_recipe_has_the_code_of_its_own_family_only(tiny: Mapping[str, Path], family: str) -> None:
    config = SampleConfig(checkpoint="x", count=1)
    found = closure(("stages.sample", *Sample().modules(config, {"checkpoint": tiny[family]})))
    assert {f"stages.generators.{family}", "stages.generators.layers", "stages.generators.weights"} < set(found)
    assert not foreign(family) & set(found)
    assert not any(name.endswith(("_official", "_discriminator", "official", "checkpoints")) for name in found)
    assert "stages" not in found  # the list of families: a fifth one changes no recipe


FAKES = """
nodes:
  fakes:
    stage: sample
    matrix: {generator: [first, second, third, fourth]}
    checkpoint: "{generator}.safetensors"
    count: 1000
    micro_batch: 64
"""


@pytest.mark.jobs
def test_a_fifth_generator_and_ten_more_seeds_compute_only_their_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[tuple[str, list[int]]] = []
    original = Sample.compute

    def counted(self: Sample, config: SampleConfig, batch: Batch, ctx: Context) -> Any:
        computed.append((ctx.files["checkpoint"].stem, batch.payload["seed"].tolist()))
        return original(self, config, batch, ctx)

    def seeds() -> dict[str, list[int]]:
        """Generator -> seeds that were really drawn since the last call."""
        found: dict[str, list[int]] = {}
        for name, numbers in computed:
            found[name] = sorted([*found.get(name, []), *numbers])
        computed.clear()
        return found

    monkeypatch.setattr(Sample, "compute", counted)
    project = Project(tmp_path, monkeypatch, FAKES)
    words = ("first", "second", "third", "fourth", "fifth")
    for number, (word, family) in enumerate(zip(words, TINY, strict=False)):
        save_family(tmp_path / f"{word}.safetensors", family, TINY[family], seed=number)
    small = ("nodes.fakes.count=20",)
    project.run(overrides=small)
    assert seeds() == {word: list(range(20)) for word in words[:4]}
    project.replace("fourth]", "fourth, fifth]")
    project.run(overrides=small)
    assert seeds() == {"fifth": list(range(20))}
    project.run("fakes[first]")
    assert seeds() == {"first": list(range(20, 1000))}
    more = ("nodes.fakes.count=1010",)
    project.run("fakes[first]", overrides=more)
    assert seeds() == {"first": list(range(1000, 1010))}
    grown = {key: value for key, value in project.rows(*more).items() if key[0] == "fakes[first]"}
    project.remove_store()
    project.run("fakes[first]", overrides=more)
    assert seeds() == {"first": list(range(1010))}
    cold = {key: value for key, value in project.rows(*more).items() if key[0] == "fakes[first]"}
    assert len(cold) == 1010
    assert cold == grown


def test_calls_hold_whole_micro_batches_however_large_the_images_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def compute(self: Sample, config: SampleConfig, batch: Batch, ctx: Context) -> Any:
        sizes.append(len(batch))
        return {"image": np.zeros((len(batch), 8, 8, 3), np.uint8)}

    monkeypatch.setattr("pipeline.running.compute.BLOCK_BYTES", 1000)  # as if an image of 8 pixels were a large one
    monkeypatch.setattr(Sample, "compute", compute)
    save_family(tmp_path / "g.safetensors", "progan", TINY["progan"])
    text = "nodes: {fakes: {stage: sample, checkpoint: g.safetensors, count: 40, micro_batch: 5}}"
    Project(tmp_path, monkeypatch, text).run()
    assert sizes == [15, 15, 10]


def test_drawing_goes_on_while_a_micro_batch_is_in_use_but_not_far_ahead() -> None:
    drawn, lock = [], threading.Lock()

    def draw(seed: int) -> dict[str, Any]:
        with lock:
            drawn.append(seed)
        return {"z": np.full(2, seed, np.float32)}

    seeds = np.arange(100, 123)
    made = []
    for number, rows in enumerate(drawn_ahead(draw, seeds, 4, "cpu")):
        made.append(rows["z"][:, 0].tolist())
        assert len(drawn) <= 4 * (number + 1 + AHEAD)
    assert sorted(drawn) == seeds.tolist()  # nothing twice
    assert made == [[float(100 + min(start + k, 22)) for k in range(4)] for start in range(0, 23, 4)]


def test_an_error_of_a_drawing_thread_reaches_the_caller() -> None:
    def draw(seed: int) -> dict[str, Any]:
        raise RuntimeError(f"no luck with {seed}")

    with pytest.raises(RuntimeError, match="no luck with 0"):
        list(drawn_ahead(draw, np.arange(9), 4, "cpu"))


OFFICIAL = ("generators", "*[!zd]")  # checkpoints as they were published: neither .npz, .gz nor .md


def settings_of(header: weights.Header) -> dict[str, Any]:
    return {"label_index": header.dimensions["c_dim"] - 1} if header.dimensions["c_dim"] else {}


@pytest.mark.golden(*OFFICIAL)
def test_an_official_checkpoint_gives_the_images_of_its_conversion(golden_path: Path, tmp_path: Path) -> None:
    assert golden_path is not None
    converted = import_module("stages.generators.official").open_checkpoint(golden_path)
    ours = tmp_path / "ours.safetensors"
    weights.save(ours, converted.family, converted.architecture, converted.tensors, converted.truncation)
    header = generator_file.read_header(golden_path)
    stated = weights.read_header(ours)
    assert (header.dimensions, header.truncation) == (stated.dimensions, stated.truncation)
    config = SampleConfig(checkpoint="x", count=1, **settings_of(header))
    Sample().check(config, {"checkpoint": golden_path})
    side = header.resolution
    assert Sample().schema(config, {"checkpoint": golden_path})["image"].shape == (side, side, 3)
    for psi in (1.0, "default"):
        settings = {**settings_of(header), "truncation_psi": psi, "micro_batch": 2}
        assert np.array_equal(images(golden_path, [4, 7], **settings), images(ours, [4, 7], **settings))


@pytest.mark.golden(*OFFICIAL)
def test_a_recipe_of_an_official_checkpoint_has_the_code_that_reads_it(golden_path: Path) -> None:
    family = generator_file.read_header(golden_path).family
    modules = Sample().modules(SampleConfig(checkpoint="x", count=1), {"checkpoint": golden_path})
    found = closure(("stages.sample", *modules))
    readers = {"stages.weights.checkpoints", "stages.weights.pickle_machine"}
    wanted = {f"stages.generators.{name}" for name in ("official", family, f"{family}_official")}
    assert wanted | readers < set(found)
    assert not foreign(family) & set(found)


def test_seeds_give_the_images_of_the_official_samplers(request: pytest.FixtureRequest) -> None:
    """Every image of the sampling protocol in the golden set; there is at least one."""
    compared = 0
    for file in sorted((request.config.getoption("--golden") / "generators").glob("*.npz")):
        golden = Golden(file)
        for key in golden.keys():  # noqa: SIM118
            match = re.fullmatch(
                r"seed(\d+)(?:_class(\d+))?_(psi1_const_uint8_nhwc|redrawn_noise_(?:image|uint8))", key
            )
            if match is None:
                continue
            (path,) = (one for one in file.parent.glob(f"{file.stem}.*") if one.suffix not in (".npz", ".md"))
            settings: dict[str, Any] = {"noise": "const"} if "const" in match[3] else {"truncation_psi": "default"}
            if generator_file.read_header(path).dimensions["c_dim"]:
                settings["label_index"] = int(match[2] or 0)
            expected = golden[key]
            if expected.dtype != np.uint8:
                expected = np.clip(expected * np.float32(127.5) + 128, 0, 255).astype(np.uint8)
            expected = expected if expected.shape[-1] == 3 else expected.transpose(0, 2, 3, 1)
            found = images(path, [int(match[1])], **settings)
            assert np.abs(found.astype(int) - expected).max() <= 1, key
            assert (found == expected).mean() >= 0.995, key
            compared += 1
    assert compared


def test_the_header_of_an_official_checkpoint_is_read_once_while_the_file_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    converted = SimpleNamespace(
        family="progan", architecture=TINY["progan"], tensors={}, truncation={"psi": 1.0, "cutoff": None}
    )

    def reading(path: Path) -> Any:
        read.append(path)
        return converted

    monkeypatch.setattr("stages.generators.official.open_checkpoint", reading)

    path = tmp_path / "official.pkl"
    path.write_bytes(b"\x80\x04 whatever it is")
    config = SampleConfig(checkpoint="x", count=1)
    for _ in range(3):
        Sample().check(config, {"checkpoint": path})
        assert Sample().schema(config, {"checkpoint": path})["image"].shape == (8, 8, 3)
    assert read == [path]
    path.write_bytes(b"\x80\x04 something else, and longer")
    Sample().check(config, {"checkpoint": path})
    assert read == [path, path]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("weights.pkl", b"<!DOCTYPE html>", "HTML or XML page"),
        ("weights.pkl", b"\x80\x04K\x01.", "without a network of a known kind"),
        ("weights.bin", b"", "is empty"),
        ("weights.safetensors", b"\x80\x04K\x01.", "no safetensors file|not safetensors"),
        ("weights.pkl", (2).to_bytes(8, "little") + b"{}", "no description of a network"),
    ],
)
def test_a_file_that_is_no_generator_is_named(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(weights.WeightsError, match=sentence) as caught:
        Sample().check(SampleConfig(checkpoint="x", count=1), {"checkpoint": path})
    assert str(path) in str(caught.value)
