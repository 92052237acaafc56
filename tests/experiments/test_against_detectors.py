"""Claims of a shift are judged by their intervals, and the experiment that makes them is a valid pipeline."""

from __future__ import annotations

from experiments import against_detectors, seeds_page
from pipeline.declaring.config import load_pipeline


def test_a_rise_holds_where_its_interval_lies_above_0() -> None:
    by_scale = {
        "-1": {"probability_of_fake": 0.3},
        "0": {"probability_of_fake": 0.5},
        "1": {"probability_of_fake": 0.4},
    }
    for interval, verdict in (([0.1, 0.3], "holds"), ([-0.1, 0.3], "cannot tell"), ([-0.3, 0.0], "does not hold")):
        rises = {"-1 to 0": [0.2, *interval], "0 to 1": [-0.1, -0.2, -0.05]}
        lower, raised = against_detectors.of_shift({"by_scale": by_scale, "rises": rises})
        assert (lower["verdict"], lower["value"], lower["sides"]) == (verdict, 0.2, [0.5, 0.3])
        assert (raised["verdict"], raised["sides"]) == ("does not hold", [0.4, 0.5])
    assert seeds_page.told(lower).startswith(f"{lower['says']}: **does not hold** (probability of fake +0.200")


def test_both_trainings_differ_in_the_detector_alone() -> None:
    nodes = load_pipeline(against_detectors.PIPELINE).nodes
    evading, control = (nodes[name].config.model_dump() for name in ("evading", "going_on"))
    different = {name for name in evading if evading[name] != control[name]}
    assert different == {"method", "stop_below", "stop_images"}
    assert set(against_detectors.NODES) <= set(nodes)
