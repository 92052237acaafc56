"""What the lineages of real and fake rows say about differences between the classes, on steps written by hand."""

from __future__ import annotations

from typing import Any

import pytest
from memory_rows import step

from stages.evaluation import class_differences

REAL_STEPS = (step("ingest", manifest="photos.csv"), step("equalize", size=16, resample="lanczos"))
FAKE_STEPS = (step("sample", generator="progan"), step("equalize", size=16, resample="lanczos"))


def test_equal_processing_has_no_difference() -> None:
    assert class_differences.compare(REAL_STEPS, FAKE_STEPS) == []


@pytest.mark.parametrize("last", ["sample", "translate", "upsample"])
def test_the_origin_of_a_fake_made_from_photographs_is_its_last_generator(last: str) -> None:
    made = (*REAL_STEPS, step(last), FAKE_STEPS[1])
    assert [one["stage"] for one in class_differences.processing(made)] == ["equalize"]


@pytest.mark.parametrize(
    ("fake", "topic", "pair"),
    [
        ((FAKE_STEPS[0], step("equalize", size=32, resample="lanczos")), "equalize.size", ("16", "32")),
        ((*FAKE_STEPS, step("perturb", protocol="he2021")), "perturb", ("(not done)", "protocol he2021")),
        (
            (*FAKE_STEPS, step("perturb", protocol="x", operations=[{"op": "blur"}])),
            "perturb",
            ("(not done)", "protocol x"),
        ),
        ((FAKE_STEPS[0],), "equalize", ("size 16, resample lanczos", "(not done)")),
        (
            (FAKE_STEPS[0], {**FAKE_STEPS[1], "environment": {"pillow": "12"}}),
            "equalize.environment.pillow",
            ("none", "12"),
        ),
        ((*FAKE_STEPS, FAKE_STEPS[1]), "equalize", ("(not done)", "size 16, resample lanczos")),
    ],
)
def test_each_kind_of_difference_has_a_topic(fake: Any, topic: str, pair: tuple[str, str]) -> None:
    (found,) = class_differences.compare(REAL_STEPS, fake)
    assert (found.topic, found.real, found.fake) == (topic, *pair)


def test_settings_that_are_empty_are_not_told() -> None:
    blurred = (*FAKE_STEPS, step("perturb", protocol="blur", off=[], codecs=None))
    (found,) = class_differences.compare(REAL_STEPS, blurred)
    assert found.fake == "protocol blur"


def test_another_order_of_the_same_steps_is_a_difference() -> None:
    blur = step("perturb", protocol="blur")
    (found,) = class_differences.compare((*REAL_STEPS, blur), (FAKE_STEPS[0], blur, FAKE_STEPS[1]))
    assert (found.topic, found.real, found.fake) == ("order", "equalize → perturb", "perturb → equalize")


def test_a_declaration_covers_what_lies_below_its_topic() -> None:
    differences = [
        class_differences.Difference("perturb.protocol", "a", "b"),
        class_differences.Difference("perturbed", "", ""),
    ]
    found, unused = class_differences.declare(differences, {"perturb": "Said.", "codec": "Unused."})
    assert [(one.topic, one.declared) for one in found] == [("perturbed", ""), ("perturb.protocol", "Said.")]
    assert unused == {"codec": "Unused."}


def test_a_color_that_goes_by_the_codec_is_a_difference_though_both_classes_have_it() -> None:
    steps = {"a": [step("ingest"), step("equalize", color="stored_luma")], "b": [step("sample"), step("equalize")]}
    steps["b"][1] = step("equalize", color="stored_luma")
    parts = [{"chain": "a", "real": 1, "fake": 0, "sources": ["photos"]},
             {"chain": "b", "real": 0, "fake": 1, "sources": ["fakes"]}]  # fmt: skip
    results = {"steps": steps, "variants": {"raw": {"reals_from": "raw", "parts": parts}}}
    (found,) = class_differences.of_results(results)
    assert (found.topic, found.real) == ("equalize.color", "the Y plane of JPEG files, computed gray of all others")
    assert class_differences.declare([found], {"equalize.color": "Said."})[0][0].declared == "Said."


def test_what_a_generator_leaves_in_its_images_is_a_difference_unless_both_classes_have_it() -> None:
    left = {"bit_depth": "32 levels per color"}
    chains = {"a": list(REAL_STEPS), "b": [{**FAKE_STEPS[0], "leaves": left}, FAKE_STEPS[1]]}
    parts = [{"chain": "a", "real": 1, "fake": 0, "sources": ["photos"]},
             {"chain": "b", "real": 0, "fake": 1, "sources": ["fakes"]}]  # fmt: skip
    results = {"steps": chains, "variants": {"raw": {"reals_from": "raw", "parts": parts}}}
    (found,) = class_differences.of_results(results)
    assert (found.topic, found.real, found.fake) == ("bit_depth", "nothing", "32 levels per color")
    chains["a"] = [{**REAL_STEPS[0], "leaves": left}, REAL_STEPS[1]]
    assert class_differences.of_results(results) == []
