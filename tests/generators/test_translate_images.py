"""Translations of photographs: bytes, against a slow way and against the authors' own images."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import Golden
from toy_photos import ARCHITECTURE, expanded, identity, photo, save

from pipeline.errors import StageError
from pipeline.stage import Batch, Context
from stages.generators import weights
from stages.sample import Sample, SampleConfig
from stages.translate import Translate, TranslateConfig


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save(tmp_path_factory.mktemp("weights") / "star.safetensors")


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
    with pytest.raises(ValueError, match="is of family stargan2; use the stage translate"):
        Sample().check(SampleConfig(checkpoint="x", count=1), {"checkpoint": path})
