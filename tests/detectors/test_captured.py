"""Steps that are recorded once and repeated: the same weights as steps that run one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detector_examples import maps, small_config

from detectors import captured, cnn
from detectors.composed import Learning
from detectors.contract import Control
from detectors.schedules.steps import Steps
from detectors.training import Course

EPOCHS = 3
BATCHES = 3  # of 16 rows and one of 8


class Graphs:
    """Records as a CUDA graph is: nothing happens, then the same is done with whatever lies in the same places."""

    def __init__(self) -> None:
        self.made = 0
        self.done = 0

    def __call__(self, work: Any, given: Any) -> Any:
        self.made += 1
        result = torch.zeros(())

        def replay() -> None:
            self.done += 1
            result.copy_(work(*given))

        return replay, result


def learned(record: Any, rate: Any = None, device: str = "cpu") -> tuple[Learning, list[dict[str, float]]]:
    """After three epochs."""
    config = cnn.composed(small_config(batch_size=16))
    if rate is not None:
        training = config.training.model_copy(update={"rate": rate, "epochs": EPOCHS, "stop": None, "select": "last"})
        config = config.model_copy(update={"training": training})
    examples: Any = maps(40, 0, shape=(3, 8, 8))
    learning = Learning(config, examples, examples, Control(device=device))
    learning.step.record = record
    course = Course()
    for _ in range(EPOCHS):
        course.add(learning.epoch(course)[1])
        course.close_entry({"epoch": len(course.log) + 1})
    return learning, course.log


def check_same(one: Learning, other: Learning) -> None:
    for first, second in ((one.network, other.network), (one.optimizer, other.optimizer)):
        torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("rate", "recordings"), [(None, 1), (Steps(after=(1, 2)), 2)])
def test_repeated_steps_are_those_that_run_one_by_one(rate: Any, recordings: int) -> None:
    graphs = Graphs()
    plain, log = learned(None, rate)
    recorded, same = learned(graphs, rate)
    check_same(recorded, plain)
    assert same == log  # losses of the steps are each step's own
    assert graphs.made == recordings  # one for each rate, which stands in the program, but that of the first steps
    assert graphs.done == EPOCHS * (BATCHES - 1) - captured.WARM_UP  # the last batch of an epoch is smaller


def test_what_cannot_be_recorded_runs_one_by_one() -> None:
    def refusing(work: Any, given: Any) -> Any:
        raise captured.NotRecordable

    plain, log = learned(None)
    found, same = learned(refusing)
    check_same(found, plain)
    assert same == log
    assert found.step.refused

    def broken(work: Any, given: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        learned(broken)


def test_steps_are_recorded_on_a_gpu_unless_the_host_draws() -> None:
    assert captured.recording("cpu", None) is None
    assert captured.recording("cuda", None) is captured.recorded
    assert captured.recording("cuda", torch.Generator()) is None
    assert learned(None)[0].step.record is None


@pytest.mark.gpu
def test_a_graph_gives_the_bytes_of_its_steps() -> None:
    from stages.training.networks import prepare

    prepare("cuda", 1)
    plain, _ = learned(None, device="cuda")
    found, _ = learned(captured.recorded, device="cuda")
    assert not found.step.refused
    assert found.step.replay is not None
    check_same(found, plain)
