"""The perceptual networks: VGG-19 against torchvision's layers, files of both kinds, the small one that is shipped."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models.vgg import cfgs, make_layers

from pipeline.planning.closure import closure
from stages.generators.weights import WeightsError
from stages.residual import Residual, ResidualConfig
from stages.resynthesis import perceptual
from stages.resynthesis.perceptual_networks import VGG19, PerceptualNetwork, build, small
from stages.train_resynthesizer import TrainResynthesizer, TrainResynthesizerConfig

ROOT = Path(__file__).parents[2]
ENDS = (1, 6, 11, 20, 29)  # indices in torchvision's `features` of relu1_1 to relu5_1
WIDTHS = (4, 6, 8, 10, 12)
MANIFEST = yaml.safe_load((ROOT / "manifests" / "networks.yaml").read_text())


@pytest.fixture(scope="module")
def vgg19() -> torch.nn.Sequential:
    """All convolutions of torchvision's VGG-19 with random weights."""
    torch.manual_seed(0)
    return make_layers(cfgs["E"], batch_norm=False).eval().requires_grad_(False)


def whole_state(layers: torch.nn.Sequential) -> dict[str, Tensor]:
    """State dict with the names of a whole VGG-19; of what is not read, one number stands for all."""
    state = {f"features.{name}": tensor for name, tensor in layers.state_dict().items()}
    for name in [name for name in state if int(name.split(".")[1]) > 28]:
        state[name] = torch.zeros(1)
    return state | {f"classifier.{layer}.{kind}": torch.zeros(1) for layer in (0, 3, 6) for kind in ("weight", "bias")}


@pytest.fixture(scope="module")
def published(vgg19: torch.nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the older form of torch file, as torchvision publishes it."""
    path = tmp_path_factory.mktemp("vgg") / "vgg19-00000000.pth"
    torch.save(whole_state(vgg19), path, _use_new_zipfile_serialization=False)
    return path


def weights_of(widths: tuple[int, ...] = WIDTHS, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random tensors of a small network, by the names of its file."""
    random = np.random.default_rng(seed)
    found = {}
    for number, (before, width) in enumerate(pairwise((3, *widths))):
        index = 0 if number == 0 else 3 * number
        found[f"features.{index}.weight"] = random.normal(0, (2 / 9 / before) ** 0.5, (width, before, 3, 3))
        found[f"features.{index}.bias"] = random.normal(0, 0.1, width)
    return {name: array.astype(np.float32) for name, array in found.items()}


def reference_stages(tensors: Mapping[str, Any], images: Tensor) -> list[Tensor]:
    """Stages 1 to 5 of a small network, written out."""
    found = []
    for number in range(5):
        index = 0 if number == 0 else 3 * number
        weight, bias = (torch.as_tensor(tensors[f"features.{index}.{kind}"]) for kind in ("weight", "bias"))
        images = images if number == 0 else F.max_pool2d(images, 2)
        images = torch.relu(F.conv2d(images, weight, bias, padding=1))
        found.append(images)
    return found


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


def test_the_slices_are_those_of_the_published_network() -> None:
    network = build(VGG19)
    convolutions = (number for number, layer in enumerate(make_layers(cfgs["E"])) if hasattr(layer, "bias"))
    indices = [number for number in convolutions if number <= 28]
    assert list(perceptual.VGG19_CONVOLUTIONS) == indices
    assert [name for name in network.state_dict() if name.endswith("bias")] == [f"features.{n}.bias" for n in indices]
    assert sum(tensor.numel() for tensor in network.parameters()) == 12_944_960
    assert [last - 1 for last in network.bounds[1:]] == list(ENDS)
    shapes = {number: tuple(made.shape) for number, made in network.stages(torch.empty(1, 3, 64, 64, device="meta"),
                                                                           range(1, 6)).items()}  # fmt: skip
    assert shapes == {
        1: (1, 64, 64, 64), 2: (1, 128, 32, 32), 3: (1, 256, 16, 16), 4: (1, 512, 8, 8), 5: (1, 512, 4, 4)
    }  # fmt: skip


def test_the_stages_of_a_published_file_are_torchvisions_layers(vgg19: torch.nn.Sequential, published: Path) -> None:
    header = perceptual.read_header(published)
    assert (header.family, header.channels, header.strides) == ("vgg19", (64, 128, 256, 512, 512), (1, 2, 4, 8, 16))
    network = perceptual.load(published, "cpu")
    assert not network.training
    assert not any(tensor.requires_grad for tensor in network.parameters())
    images = noise(1, 3, 32, 48)
    found = network.stages(images, [5, 1, 2, 3, 4])
    for stage, end in enumerate(ENDS, start=1):
        expected = vgg19[: end + 1](images)
        assert found[stage].shape == expected.shape
        assert expected.max() > 0
        torch.testing.assert_close(found[stage], expected, rtol=1e-4, atol=1e-5)


def test_a_zip_file_and_safetensors_give_the_same_network(
    vgg19: torch.nn.Sequential, published: Path, tmp_path: Path
) -> None:
    features = {name: tensor for name, tensor in whole_state(vgg19).items() if name not in perceptual.BEHIND}
    torch.save(features, tmp_path / "vgg.pth")
    save_file(features, tmp_path / "vgg.safetensors")
    images = noise(2, 3, 16, 16)
    expected = perceptual.load(published, "cpu")(images)
    for name in ("vgg.pth", "vgg.safetensors"):
        assert perceptual.read_header(tmp_path / name).family == "vgg19"
        assert torch.equal(perceptual.load(tmp_path / name, "cpu")(images), expected)


def test_a_reader_of_pickles_is_code_of_pickles_only(published: Path, tmp_path: Path) -> None:
    own = tmp_path / "small.safetensors"
    perceptual.save(own, WIDTHS, weights_of())
    reader = "stages.weights.pickle_machine"
    assert reader in closure(perceptual.modules(published))
    assert reader not in closure(("stages.resynthesis.perceptual", *perceptual.modules(own)))
    assert "stages.resynthesis.perceptual_networks" in closure(perceptual.modules(own))


def test_a_small_network_goes_through_its_file(tmp_path: Path) -> None:
    path, tensors = tmp_path / "small.safetensors", weights_of()
    assert perceptual.save(path, WIDTHS, tensors) == perceptual.read_header(path)
    assert perceptual.read_header(path).channels == WIDTHS
    content = path.read_bytes()
    perceptual.save(path, WIDTHS, dict(reversed(tensors.items())))
    assert path.read_bytes() == content
    images = noise(3, 3, 40, 36)
    found = perceptual.load(path, "cpu").stages(images, range(1, 6))
    for stage, expected in enumerate(reference_stages(tensors, images), start=1):
        assert expected.shape == (3, WIDTHS[stage - 1], 40 >> (stage - 1), 36 >> (stage - 1))
        torch.testing.assert_close(found[stage], expected, rtol=1e-4, atol=1e-5)


def test_no_deeper_layer_is_run_than_asked_for_and_none_twice() -> None:
    torch.manual_seed(0)
    network = PerceptualNetwork(small(WIDTHS))
    runs: list[int] = []
    for number, layer in enumerate(network.features):
        layer.register_forward_hook(lambda *_, number=number: runs.append(number))
    images = noise(1, 3, 16, 16)
    kept = images.clone()
    alone = network.stages(images, [3])
    assert list(alone) == [3]
    assert runs == list(range(8))
    runs.clear()
    several = network.stages(images, [2, 3, 1])
    assert runs == list(range(8))
    assert sorted(several) == [1, 2, 3]
    assert torch.equal(alone[3], several[3])
    runs.clear()
    assert network.stages(images, []) == {}
    assert not runs
    assert torch.equal(images, kept)
    again = [network.stages(images, [stage])[stage] for stage in (1, 2)]
    assert torch.equal(again[0], several[1])  # later layers have not changed what an earlier one gave
    assert torch.equal(again[1], several[2])


def test_a_gradient_reaches_the_images_but_no_weight(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    perceptual.save(path, WIDTHS, weights_of())
    network = perceptual.load(path, "cpu")
    images = noise(1, 3, 16, 16).requires_grad_()
    sum(made.sum() for made in network.stages(images, range(1, 6)).values()).backward()  # type: ignore[union-attr]
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(tensor.grad is None for tensor in network.parameters())


def test_stages_and_sides_that_are_not_there_are_refused() -> None:
    network = PerceptualNetwork(small(WIDTHS))
    for stage in (0, 6):
        with pytest.raises(ValueError, match=rf"stages \[{stage}\] are wanted; the network has 1 to 5"):
            network.stages(noise(1, 3, 16, 16), [stage])
    with pytest.raises(ValueError, match="images of 15 x 32 have no stage 5; expected 16 px"):
        network.stages(noise(1, 3, 15, 32), [5])
    assert network.stages(noise(1, 3, 1, 1), [1])[1].shape == (1, 4, 1, 1)


OWN: dict[str, Any] = {"format": 1, "network": "perceptual", "widths": list(WIDTHS)}


def damaged(change: Any) -> Any:
    """Writes a small network after a change of its tensors."""

    def write(path: Path) -> None:
        tensors = {name: torch.from_numpy(array) for name, array in weights_of().items()}
        change(tensors)
        save_file(tensors, path, metadata={"touchstone": json.dumps(OWN)})

    return write


def described(about: Any) -> Any:
    """Writes a file with this description and next to nothing else."""
    text = about if isinstance(about, str) else json.dumps(about)
    return lambda path: save_file({"features.0.bias": torch.zeros(4)}, path, metadata={"touchstone": text})


def incomplete(path: Path) -> None:
    """The names of VGG-19 but for one."""
    names = [f"features.{number}.{kind}" for number in perceptual.VGG19_CONVOLUTIONS for kind in ("weight", "bias")]
    save_file({name: torch.zeros(1) for name in names[:-1]}, path)


WRONG: dict[str, tuple[Any, str]] = {
    "vgg": (incomplete, "it lacks features.28.bias of VGG-19"),
    "kernels": (
        lambda path: save_file(names_of("E") | {"features.0.weight": torch.zeros(64, 3, 5, 5)}, path),
        r"is no perceptual network: its features\.0\.weight is \(64, 3, 5, 5\), that of VGG-19 \(64, 3, 3, 3\)",
    ),
    "lacking": (damaged(lambda found: found.pop("features.12.bias")), "it lacks features.12.bias"),
    "leftover": (damaged(lambda found: found.update(extra=torch.zeros(2))), "has the unknown extra"),
    "shape": (damaged(lambda found: found.update({"features.3.bias": torch.zeros(3)})), r"bias is \(3,\), that of"),
    "not finite": (damaged(lambda found: found["features.0.bias"].fill_(torch.nan)), "4 values that are not finite"),
    "dtype": (damaged(lambda found: found.update(extra=torch.zeros(2, dtype=torch.bfloat16))), "expected F16 or F32"),
    "page": (lambda path: path.write_bytes(b"<html>not found</html>"), "is an HTML or XML page"),
    "empty": (lambda path: path.write_bytes(b""), "is empty; download it again"),
    "text": (lambda path: path.write_bytes(b"x" * 40), "is no checkpoint: it begins with"),
    "cut": (
        lambda path: path.write_bytes((99).to_bytes(8, "little") + b'{"a"'),
        r"is no whole safetensors file: it is truncated: its header has 99 bytes, .* after 4 of them; get it again$",
    ),
    "generator": (
        described({"format": 1, "family": "progan"}),
        "is a generator; use it as `checkpoint` of sample, translate or simulate$",
    ),
    "re-synthesizer": (described(OWN | {"network": "rdn"}), "is a re-synthesizer; use it as `model` of residual or "),
    "another": (described(OWN | {"network": "vgg"}), "holds a 'vgg' of format 1; expected a 'perceptual' network"),
    "format": (described(OWN | {"format": 2}), "of format 2; expected a 'perceptual' network of format 1"),
    "widths": (described(OWN | {"widths": [4, 4, 0, 4, 4]}), r"widths are \[4, 4, 0, 4, 4\], expected 5 numbers"),
    "few": (described(OWN | {"widths": [4]}), r"widths are \[4\], expected 5 numbers from 1 to 4096"),
    "no json": (described("{"), "its description is not JSON"),
    "list": (described([1]), r"its description is a list, expected an object"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_no_such_network_is_named(case: str, tmp_path: Path) -> None:
    write, sentence = WRONG[case]
    path = tmp_path / "weights.bin"
    write(path)
    with pytest.raises(WeightsError, match=sentence) as caught:
        perceptual.load(path, "cpu")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_other_torch_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.pth"
    torch.save({"a": {"x": torch.zeros(1)}, "b": {"x": torch.zeros(1)}}, path)
    with pytest.raises(WeightsError, match="holds 'a', 'b'; expected the tensors of VGG-19 alone"):
        perceptual.load(path, "cpu")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(WeightsError, match=r"is no perceptual network: it lacks features\.0\.bias of VGG-19"):
        perceptual.load(path, "cpu")
    with pytest.raises(WeightsError, match="cannot be read"):
        perceptual.read_header(tmp_path / "absent.pth")


def names_of(network: str, batch_norm: bool = False) -> dict[str, Tensor]:
    """The names of a network of torchvision, each with one number: names are compared before shapes."""
    with torch.device("meta"):
        layers = make_layers(cfgs[network], batch_norm=batch_norm)
    return {f"features.{name}": torch.zeros(1) for name in layers.state_dict()} | {"classifier.0.bias": torch.zeros(1)}


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (names_of("D"), r"is no perceptual network: it lacks features\.16\.weight of VGG-19; expected torchvision's"),
        (names_of("A"), r"it lacks features\.2\.weight of VGG-19"),
        (names_of("E", batch_norm=True), r"it lacks features\.2\.weight of VGG-19"),
        (names_of("E") | {"two\nlines": torch.zeros(2)}, r"it has the unknown two\\nlines; expected"),
        (names_of("E") | {"fc.bias": torch.zeros(2)}, r"it has the unknown fc\.bias; expected torchvision's VGG-19"),
        (
            names_of("E") | {"features.0.weight": torch.zeros(64, 3, 5, 5)},
            r"its features\.0\.weight is \(64, 3, 5, 5\), that of VGG-19 \(64, 3, 3, 3\)",
        ),
        ({"state_dict": {"sfe1.weight": torch.zeros(64, 3, 3, 3)}}, "holds 'state_dict'; expected the tensors of"),
    ],
    ids=["VGG-16", "VGG-11", "VGG-19 with batch norm", "odd name", "more", "other kernels", "re-synthesizer"],
)
def test_another_network_is_named_at_planning(state: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    """Both stages check their files before anything runs."""
    path = tmp_path / "other.pth"
    torch.save(state, path)
    training = TrainResynthesizerConfig(size="tiny", perceptual="p")
    with pytest.raises(WeightsError, match=sentence) as caught:
        TrainResynthesizer().check(training, {"perceptual": path})
    assert "\n" not in str(caught.value)
    given = ResidualConfig(model="m", levels=("stage1",), perceptual="p")
    model = ROOT / "manifests" / MANIFEST["rdn-small-SR"]["file"]
    with pytest.raises(WeightsError, match=sentence):
        Residual().check(given, {"model": model, "perceptual": path})


def test_tensors_in_safetensors_are_compared_with_the_network_at_planning(tmp_path: Path) -> None:
    for case in ("kernels", "lacking", "leftover", "shape"):
        write, sentence = WRONG[case]
        write(tmp_path / case)
        with pytest.raises(WeightsError, match=sentence):
            perceptual.read_header(tmp_path / case)


def test_a_header_of_a_torch_file_runs_nothing_of_it(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "touched",)

    path = tmp_path / "trap.pth"
    torch.save({"features.0.weight": Trap()}, path)
    with pytest.raises(WeightsError, match="is refused: "):
        perceptual.read_header(path)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_header_is_read_without_torch(ending: str, published: Path, tmp_path: Path) -> None:
    path = published if ending == "pth" else tmp_path / "small.safetensors"
    if ending == "safetensors":
        perceptual.save(path, WIDTHS, weights_of())
    program = (
        "import sys; from pathlib import Path; from stages.resynthesis import perceptual; "
        "perceptual.read_header(Path(sys.argv[1])); perceptual.modules(Path(sys.argv[1])); "
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_the_small_network_that_is_shipped_is_what_its_card_says() -> None:
    entry = MANIFEST["perceptual-small"]
    path = ROOT / "manifests" / entry["file"]
    content = path.read_bytes()
    assert len(content) == entry["size"] <= 4_000_000
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    card = json.loads((ROOT / "manifests" / entry["card"]).read_text())
    header = perceptual.read_header(path)
    assert list(header.channels) == card["architecture"]["widths"]
    assert list(header.strides) == card["architecture"]["strides"]
    assert sum(tensor.numel() for tensor in perceptual.load(path, "cpu").parameters()) == card["parameters"]
    for colors in ("color", "gray"):
        found = card["figures"][colors]
        assert all(found["trained"][stage] > found["random weights"][stage] for stage in found["trained"])
        assert found["trained"]["all"] > 1.5 * found["random weights"]["all"] > 1.5 * card["figures"]["chance"]
    assert len(card["data_fingerprint"]) == 32


def test_all_stages_of_the_small_network_have_the_unit_of_pixels() -> None:
    """The mean residual of a bicubic re-synthesis of photographs that it was not trained on."""
    from PIL import Image

    files = sorted((ROOT / "manifests" / "photos").glob("*.png"))[::60]
    arrays = np.stack([np.array(Image.open(file).convert("RGB")) for file in files])
    images = torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255
    rebuilt = F.interpolate(F.avg_pool2d(images, 4), scale_factor=4, mode="bicubic")
    network = perceptual.load(ROOT / "manifests" / MANIFEST["perceptual-small"]["file"], "cpu")
    pair = [network.stages(each, range(1, 6)) for each in (images, rebuilt)]
    pixels = (images - rebuilt).abs().mean()
    for stage in range(1, 6):
        assert 0.5 < (pair[0][stage] - pair[1][stage]).abs().mean() / pixels < 2
