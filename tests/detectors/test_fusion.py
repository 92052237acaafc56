"""Fusion: the mean of the members' probabilities, row by row, with what the members learned inside."""

from __future__ import annotations

import importlib
import json
import math
from typing import Any

import numpy as np
import pytest
from detector_examples import MemoryExamples, equal, means, profiles
from numpy.typing import NDArray

from detectors import fusion
from detectors.choosing import detector_config
from detectors.contract import Control, Member, State, check_state
from stages.training.progress import pack, unpack


def config(**settings: Any) -> Any:
    return detector_config({"family": "fusion", **settings})


def test_means_of_probabilities_and_of_logits_have_closed_forms() -> None:
    probabilities = np.array([[0.2, 1.0, 0.0], [0.8, 0.5, 0.5]])
    np.testing.assert_allclose(fusion.fused(config(), probabilities), [0.5, 0.75, 0.25])
    np.testing.assert_allclose(fusion.fused(config(weights=[0.75, 0.25]), probabilities), [0.35, 0.875, 0.125])
    same, one, zero = fusion.fused(config(mean="logit"), probabilities)
    assert same == pytest.approx(0, abs=1e-15)
    assert one == pytest.approx(0.5 * 24 * math.log(2), rel=1e-6)  # certain members stay finite
    assert zero == pytest.approx(-one)


@pytest.mark.parametrize("weights", [[0.5, 0.6], [1.0], [1.5, -0.5]])
def test_weights_that_are_none_are_one_sentence(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"detector family 'fusion': 'weights' is .*; ") as caught:
        config(weights=weights)
    assert "\n" not in str(caught.value)


def trained(settings: Any, train: MemoryExamples, val: MemoryExamples, **card: Any) -> Member:
    chosen = detector_config(settings)
    family = importlib.import_module(type(chosen).__module__)
    state = family.fit(chosen, train, val, Control())
    written = {"config": chosen.model_dump(mode="json"), "state": dict(state.plain), "feature_shape": list(train.shape)}
    return Member(family, chosen, state, json.loads(json.dumps({**written, **card})))


def clause_of(config: Any, state: State) -> str:
    """Why a state cannot be a fusion."""
    with pytest.raises(ValueError, match=r"^.") as caught:
        check_state(fusion, config, state, None)
    return str(caught.value)


def both(count: int, seed: int) -> tuple[MemoryExamples, MemoryExamples, MemoryExamples]:
    """Rows with two fields: each alone, and as one structured array."""
    one, other = profiles(count, seed), means(count, seed + 50)
    joined: NDArray[Any] = np.empty(count, [("profile", "<f4", (43,)), ("residual_pixel_mean", "<f4")])
    joined["profile"], joined["residual_pixel_mean"] = one.features, other.features
    return one, other, MemoryExamples(joined, one.labels)


@pytest.fixture(scope="module")
def members() -> tuple[Member, ...]:
    (first, second, _), (val_first, val_second, _) = both(60, 1), both(40, 2)
    return (
        trained({"preset": "profile-svm", "length": None}, first, val_first, counts={"train": 60}),
        trained("residual-mean", second, val_second),
    )


class Unread:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of the training rows was read")


def fitted(members: tuple[Member, ...], **settings: Any) -> State:
    val: Any = both(40, 2)[2]
    return fusion.fit(config(**settings), Unread(), val, Control(members=members))  # type: ignore[arg-type]


def test_decisions_are_means_of_the_members_scores_calibrated_on_validation_rows(members: tuple[Member, ...]) -> None:
    state, (one, other, joined) = fitted(members), both(20, 3)
    scores = [
        member.family.score(member.config, member.state, rows.features).astype(np.float64)
        for member, rows in zip(members, (one, other), strict=True)
    ]
    expected = (scores[0] + scores[1]) / 2
    np.testing.assert_allclose(fusion.decision(config(), state, joined.features), expected, rtol=1e-12)
    logit = state.plain["slope"] * expected + state.plain["intercept"]
    found = fusion.score(config(), state, joined.features)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logit)), rtol=1e-6)
    assert ((found >= 0.5) == (joined.labels == 1)).mean() > 0.9
    for size in (1, 3):
        parts = [fusion.score(config(), state, block) for block in joined.blocks(size)]
        assert np.concatenate(parts).tobytes() == found.tobytes()


def test_the_state_holds_the_members_cards_and_goes_through_a_file(members: tuple[Member, ...], tmp_path: Any) -> None:
    state = fitted(members)
    assert [card["config"]["family"] for card in state.plain["members"]] == ["svm", "threshold"]
    assert state.plain["members"][0]["counts"] == {"train": 60}
    path = tmp_path / "state"
    path.write_bytes(pack(state))
    assert equal(unpack(path), state)
    assert fusion.fields(unpack(path)) == ("profile", "residual_pixel_mean")
    check_state(fusion, config(), unpack(path), None)


def test_members_of_one_field_read_plain_rows(members: tuple[Member, ...]) -> None:
    train, val = profiles(60, 1), profiles(40, 2)
    two = (members[0], trained("profile-logistic", train, val))
    state = fusion.fit(config(), Unread(), val, Control(members=two))  # type: ignore[arg-type]
    scores = [one.family.score(one.config, one.state, val.features).astype(np.float64) for one in two]
    np.testing.assert_allclose(fusion.decision(config(), state, val.features), np.mean(scores, axis=0), rtol=1e-12)


def test_as_many_weights_as_members_are_needed(members: tuple[Member, ...]) -> None:
    with pytest.raises(ValueError, match="'weights' has 3 numbers for 2 members; expected one for each"):
        fitted(members, weights=[0.5, 0.25, 0.25])
    clause = clause_of(config(weights=[0.5, 0.25, 0.25]), fitted(members))
    assert clause == "it has 2 members and 3 weights"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"members": None}, "its 'members' are no list of two cards or more"),
        ({"members": [{}, {}]}, "its 'members' are no cards of detectors"),
        ({"members": [{"config": {"family": "fusion"}, "state": {}}] * 2}, "its 'members' are no cards of detectors"),
        (
            {"members": [{"config": {"family": "svm", "C": 0}, "state": {}}] * 2},
            "the card of its member 'svm' does not",
        ),
        ({"slope": math.nan}, "its 'slope' is nan, expected a finite number"),
    ],
)
def test_hostile_cards_of_members_are_one_clause(members: tuple[Member, ...], change: Any, sentence: str) -> None:
    state = fitted(members)
    clause = clause_of(config(), State(state.tensors, {**state.plain, **change}))
    assert clause.startswith(sentence)
    assert "\n" not in clause


def test_a_damaged_member_is_named(members: tuple[Member, ...]) -> None:
    state = fitted(members)
    cards = [dict(card) for card in state.plain["members"]]
    cards[0]["state"] = {**cards[0]["state"], "gamma": "wide"}
    clause = clause_of(config(), State(state.tensors, {**state.plain, "members": cards}))
    assert clause == "of its member 0, its 'gamma' is wide, expected a finite number"
    tensors = {**state.tensors, "0/support": state.tensors["0/support"][:, 1:]}
    assert clause_of(config(), State(tensors, state.plain)).startswith("its tensor '0/support' is")
