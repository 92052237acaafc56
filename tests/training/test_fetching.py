"""What is computed on a device is fetched while the next piece is queued, and goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from small_resynthesizers import config, photos, started
from torch import nn

from detectors.training import Course, progress, restored
from detectors.transfers import Fetched
from pipeline.errors import StageError
from pipeline.running.compute import Rows, Step, block_rows, compute
from pipeline.stage import Batch, Context, Field, Kind, Stage, StageConfig
from stages import sample
from stages.residual import LEVELS, Residual, ResidualConfig, micro_batch

WEIGHTS = Path(__file__).resolve().parents[2] / "manifests" / "weights"


class Copy:
    """Stands in for a tensor of a GPU, and notes what is done with it."""

    device, shape, dtype = torch.device("cuda"), (2,), torch.float32


def test_a_copy_is_queued_at_once_and_waited_for_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Event:
        def record(self) -> None:
            done.append("recorded")

        def synchronize(self) -> None:
            done.append("waited")

    class Pinned:
        def copy_(self, source: Any, non_blocking: bool) -> None:
            done.append(f"copy, blocking {not non_blocking}")

        def numpy(self) -> Any:
            return np.ones(2)

    def empty(shape: Any, dtype: Any, pin_memory: bool) -> Pinned:
        assert pin_memory
        return Pinned()

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "empty", empty)
    fetched = Fetched(Copy())  # type: ignore[arg-type]
    assert done == ["copy, blocking False", "recorded"]
    assert fetched.array().tolist() == [1, 1]
    assert done[2:] == ["waited"]


def test_images_are_read_one_micro_batch_late(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Noted(Fetched):
        def __init__(self, tensor: Any) -> None:
            done.append("queued")
            super().__init__(tensor)

        def array(self) -> Any:
            done.append("read")
            return super().array()

    monkeypatch.setattr("detectors.transfers.Fetched", Noted)
    path = WEIGHTS / "progan-small-raw.safetensors"
    config = sample.SampleConfig(checkpoint=str(path), count=3, micro_batch=1)
    batch = Batch(np.zeros(3, "V16"), payload={"seed": np.arange(3)})
    sample.Sample().compute(config, batch, Context(0, "sample", "cpu", 1, {"checkpoint": path}))
    assert done == ["queued", "read", "queued", "read", "queued", "read"]


@pytest.mark.parametrize("side", [32, 64, 128, 256, 1024])
def test_blocks_of_a_gpu_are_whole_micro_batches_of_all_levels(side: int) -> None:
    files = {"model": WEIGHTS / "rdn-small-SR.safetensors", "perceptual": WEIGHTS / "perceptual-small.safetensors"}
    given = ResidualConfig.model_validate({"levels": list(LEVELS), **{name: str(one) for name, one in files.items()}})
    images = {"image": Field("uint8", (side, side, 3))}
    schema = Residual().schema(given, {"of": images, **files})
    rows = block_rows(Step("r", Residual(), given, schema, device="cuda"), [images])
    assert rows % micro_batch((side, side), "cuda") == 0
    weight = rows * sum(one.row_bytes for one in schema.values())
    assert weight <= 256 * 2**20 or rows == 16  # fewer than a micro-batch of a CPU are never given
    assert block_rows(Step("r", Residual(), given, schema), [images]) <= max(rows, 16)


class Doubled(Stage):
    """Twice a number, on a device."""

    name, kind, Config, network = "doubled", Kind.MAP, StageConfig, True

    def compute(self, config: Any, batch: Batch, ctx: Context) -> Any:
        return {"number": 2 * batch.inputs[0]["number"]}


@pytest.mark.parametrize(("device", "least"), [("cpu", 1), ("cuda", 256)])
def test_a_gpu_is_given_full_blocks_however_slow_rows_are(device: str, least: int) -> None:
    asked: list[tuple[int, int]] = []

    class Pace:
        def rows(self, most: int, least: int) -> int:
            asked.append((most, least))
            return least

        def done(self, rows: int, values: Any, last: bool) -> None:
            """Nothing is kept."""

    numbers = np.arange(2)
    rows = Rows(np.zeros(2, "V16"), inputs=lambda some: ({"number": numbers[some]},))
    found = compute(Step("d", Doubled(), None, {"number": Field("int64")}, device=device), rows, Pace())
    assert found.arrays["number"].tolist() == [0, 2]
    assert set(asked) == {(256, least)}


def test_moments_go_on_in_the_memory_order_of_their_weights() -> None:
    rows = photos()
    first, again = started(config(), rows), started(config(), rows)
    first.step(0)
    restored(again, progress(first, Course()))
    for name, optimizer in again.all_optimizers().items():
        was = first.all_optimizers()[name].state
        for one, other in zip(optimizer.state.items(), was.items(), strict=True):
            assert one[1]["exp_avg"].stride() == one[0].stride() == other[1]["exp_avg"].stride()
            assert torch.equal(one[1]["exp_avg"], other[1]["exp_avg"])
    assert any(one.is_contiguous(memory_format=torch.channels_last) and not one.is_contiguous()
               for one in first.network.parameters())  # fmt: skip


class OneNumber:
    """A learner whose only weight is a single number on a device."""

    steps, numbers, random = 0, MappingProxyType({}), None

    def __init__(self, device: str) -> None:
        self.network = nn.Module()
        self.network.weight = nn.Parameter(torch.zeros((), device=device))
        self.optimizer = torch.optim.Adam(self.network.parameters())

    def networks(self) -> dict[str, nn.Module]:
        return {}  # its values do not matter here

    def all_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"network": self.optimizer}

    def more(self) -> dict[str, Any]:
        return {}

    def take_back(self, more: Any) -> None:
        """Nothing else is kept."""


def test_the_count_of_steps_of_a_single_number_stays_on_the_host() -> None:
    first, again = OneNumber("cpu"), OneNumber("meta")
    first.network.weight.grad = torch.ones(())
    first.optimizer.step()
    restored(again, progress(first, Course()))  # type: ignore[arg-type]
    (state,) = again.optimizer.state.values()
    assert (state["step"].device.type, state["step"].item()) == ("cpu", 1)
    assert state["exp_avg"].device.type == "meta"


def test_a_resynthesizer_may_learn_in_bfloat16_with_whole_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, seen = photos(), []
    training = started(config(precision="bfloat16"), rows)
    training.network.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    _, numbers = training.step(0)
    assert seen[0] == torch.bfloat16
    assert np.isfinite(list(numbers.values())).all()
    after = training.network.state_dict()
    assert {value.dtype for value in after.values()} == {torch.float32}
    assert any(not torch.equal(after[name], before[name]) for name in before)
    seen.clear()
    training.validate()
    assert set(seen) == {torch.float32}
    plain = started(config(), rows)
    assert not plain.half


def test_half_precision_that_a_cpu_would_imitate_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from small_resynthesizers import fit

    monkeypatch.setattr("stages.training.networks.imitates_half", lambda device: True)
    with pytest.raises(StageError, match=r"^precision: bfloat16 needs instructions .* float32 or run on a GPU$"):
        fit(tmp_path, config(precision="bfloat16"), photos())
