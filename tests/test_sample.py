"""The source of fakes: ids, protocol, bytes that do not depend on neighbors, and settings."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import StageError
from pipeline.stage import FAKE, Batch, Context, Field
from stages.generators import stylegan2, weights
from stages.networks import in_micro_batches
from stages.sample import Sample, SampleConfig

ARCHITECTURE = {"z_dim": 6, "c_dim": 0, "w_dim": 6, "resolution": 16, "channel_base": 128, "channel_max": 12}


def save(path: Path, **more: int) -> Path:
    """A generator with random weights and noticeable noise."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    architecture = {**ARCHITECTURE, **more}
    generator = stylegan2.Generator(**architecture)  # type: ignore[arg-type]
    tensors = {name: tensor.detach().numpy().copy() for name, tensor in generator.state_dict().items()}
    for name in tensors:
        if name.endswith("noise_strength"):
            tensors[name] = np.float32(0.5).reshape(())
    weights.save(path, "stylegan2", architecture, tensors)
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


def test_a_million_seeds_are_found_with_little_memory() -> None:
    rows = Sample().discover(SampleConfig(checkpoint="a", count=1_000_000), None)
    assert rows.id.nbytes == 16_000_000
    assert rows.payload["seed"].nbytes == 8_000_000
    assert len(set(rows.id.tolist())) == 1_000_000


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
        "image": Field("uint8", (16, 16, 3), "sRGB, 0..255")
    }
    code = (
        "import sys; from pathlib import Path; from stages.sample import Sample, SampleConfig\n"
        "config = SampleConfig(checkpoint='x', count=3)\n"
        f"files = {{'checkpoint': Path({str(checkpoint)!r})}}\n"
        "Sample().schema(config, files); Sample().check(config, files); Sample().discover(config, None)\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    root = Path(__file__).parents[1]
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
