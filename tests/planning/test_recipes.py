"""Digests of recipes: pinned literals, one encoding per value, and what enters a recipe at all."""

from __future__ import annotations

import json
import math
import unicodedata
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import ids
from pipeline.declaring.stage_names import load_stage, registered
from pipeline.digests import digest, encode
from pipeline.planning.recipes import (
    Recipe,
    artifact_key,
    chain_of,
    differences,
    make_recipe,
    recipe_config,
    rows_digest,
)
from pipeline.stage import Field, Kind, Stage, StageConfig, draw_key, file_setting, row_setting, setting


def test_pinned_digests() -> None:
    """Changing one of these makes every store stale: it is a deliberate line."""
    assert digest("recipe", {"b": [1, 2.5, True, None, "é"], "a": b"x"}).hex() == PINNED["recipe"]
    assert chain_of(bytes(16), [bytes(range(16))]).hex() == PINNED["chain"]
    assert artifact_key(bytes(16), {"on/": [(bytes(16), bytes(range(16)))]}).hex() == PINNED["artifact"]
    assert digest("group", "contributor 7").hex() == PINNED["group"]
    assert f"{draw_key(7, 'jitter', bytes(16), 'noise'):032x}" == PINNED["draw"]


PINNED = {
    "recipe": "0fe5531ae1e8508835270daf3fe032f9",
    "chain": "da6ba6bbad031b7640466398641ec490",
    "artifact": "306c016f5ef1ee9e121d30f46fe234ee",
    "group": "4fdc0dd9afa58362633e95aa5d6a7488",
    "draw": "4c65f60bc293f144028ed94eb5e7fa01",
}


def test_the_encoding_is_tag_length_content() -> None:
    assert encode(12) == b"i" + (2).to_bytes(8, "little") + b"12"
    assert encode([None, True]) == b"l" + (3).to_bytes(8, "little") + b"nb1"
    assert encode(0.1) == b"f" + (3).to_bytes(8, "little") + b"0.1"
    assert encode({"a": 1}) == b"d" + (20).to_bytes(8, "little") + encode("a") + encode(1)


def test_values_that_differ_in_kind_differ() -> None:
    values: list[Any] = [1, 1.0, True, "1", b"1", None, "None", 0, False, "", [], {}, [[]], [1], {"1": 1},
                         {1: 1}, set(),
                         [1, 2], [12], [[1], 2], ["a", "b"], ["ab"], 1e16, 10**16, math.inf, -math.inf]  # fmt: skip
    assert len({encode(value) for value in values}) == len(values)


def test_spellings_of_one_value_agree() -> None:
    assert encode(-0.0) == encode(0.0)
    assert encode(unicodedata.normalize("NFD", "é")) == encode("é")
    assert encode({"é": 1}) == encode({unicodedata.normalize("NFD", "é"): 1})
    assert encode({"a": 1, "b": 2}) == encode({"b": 2, "a": 1})
    assert encode({3, 1, 2}) == encode({2, 3, 1}) == encode(frozenset((1, 2, 3)))
    assert encode((1, 2)) == encode([1, 2])
    assert encode(np.float64(0.1)) == encode(0.1)


@pytest.mark.parametrize("value", [math.nan, np.float64("nan"), [1, [math.nan]], {"a": math.nan}])
def test_nan_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="NaN has no canonical form"):
        encode(value)


@pytest.mark.parametrize("value", [np.int64(1), np.zeros(2), object(), Path("x"), np.bool_(True)])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="has no canonical form"):
        encode(value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def canonical(value: Any) -> Any:
    """A value that is equal exactly where the encoding promises equality."""
    if isinstance(value, dict):
        return "d", tuple(
            sorted((unicodedata.normalize("NFC", key), canonical(v)) for key, v in value.items())
        ).__repr__()
    if isinstance(value, list):
        return "l", repr([canonical(item) for item in value])
    if isinstance(value, str):
        return "s", unicodedata.normalize("NFC", value)
    return type(value).__name__, repr(value + 0.0 if isinstance(value, float) else value)


@settings(deadline=None, max_examples=40)
@given(plain, plain)
def test_equal_encodings_mean_equal_values(one: Any, other: Any) -> None:
    assert (encode(one) == encode(other)) == (canonical(one) == canonical(other))


class Mode(StrEnum):
    FAST = "fast"
    SLOW = "slow"


class Inner(StageConfig):
    strength: float = setting(1.0, description="x")
    shown: str = row_setting("a", description="x")


class Config(StageConfig):
    sigma: float = setting(1.0, description="x")
    count: int = setting(3, description="x")
    mode: Mode = setting(Mode.FAST, description="x")
    kind: Literal["a", "b"] = setting("a", description="x")
    inner: Inner = setting(Inner(), description="x")
    names: tuple[str, ...] = setting((), description="x")
    folder: str = row_setting("photos", description="x")
    table: str | None = file_setting(None, description="x")


class Plain(Stage):
    name, kind, Config = "plain", Kind.MAP, Config


def recipe(config: Config, **changes: Any) -> Recipe:
    stage = type("Plain", (Plain,), changes.pop("stage", {}))()
    given_arguments: dict[str, Any] = {
        "schema": {"x": Field("<f4", (3,), "dB")}, "paths": {}, "files": {}, "artifacts": {}, "seed": 0,
        "device": "cpu", "threads": 1, **changes,
    }  # fmt: skip
    return make_recipe(stage, config, **given_arguments)


configs = st.builds(
    Config, sigma=st.floats(-2, 2), count=st.integers(-2, 2), mode=st.sampled_from(Mode),
    kind=st.sampled_from(["a", "b"]), inner=st.builds(Inner, strength=st.sampled_from([0.0, 1.0, 2.0])),
    names=st.sampled_from([(), ("x",), ("x", "y")]),
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(configs, configs)
def test_configs_that_differ_have_recipes_that_differ(one: Config, other: Config) -> None:
    assert (recipe(one).digest == recipe(other).digest) == (one == other)


def test_settings_of_rows_and_paths_of_files_do_not_enter() -> None:
    assert recipe_config(Config(folder="elsewhere", table="x.txt", inner=Inner(shown="b"))) == recipe_config(Config())
    assert recipe_config(Config()) == {
        "sigma": 1.0, "count": 3, "mode": "fast", "kind": "a", "inner": {"strength": 1.0}, "names": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"files": {"table": "00"}}, True),
        ({"artifacts": {"model": "00"}}, True),
        ({"schema": {"x": Field("<f8", (3,), "dB")}}, True),
        ({"schema": {"x": Field("<f4", (4,), "dB")}}, True),
        ({"schema": {"x": Field("<f4", (3,), "1")}}, True),
        ({"seed": 1}, False),
        ({"device": "cuda", "threads": 8}, False),
        ({"stage": {"name": "other"}}, True),
        ({"stage": {"libraries": ("numpy", "pillow")}}, True),
        ({"stage": {"block_rows": 3}}, False),
        ({"stage": {"environment": lambda self, config: {"libjpeg": "9"}}}, True),
    ],
)
def test_what_enters_a_recipe(changes: dict[str, Any], differs: bool) -> None:
    assert (recipe(Config(), **changes).digest != recipe(Config()).digest) == differs


@pytest.mark.parametrize(
    ("mark", "changes"), [("random", {"seed": 1}), ("network", {"device": "cuda"}), ("network", {"threads": 2})]
)
def test_seed_and_device_enter_where_the_stage_says_so(mark: str, changes: dict[str, Any]) -> None:
    stage = {mark: True}
    assert recipe(Config(), stage=stage, **changes).digest != recipe(Config(), stage=stage).digest


def test_a_chain_depends_on_its_recipe_and_on_the_order_of_its_inputs() -> None:
    a, b, c = (digest("x", number) for number in range(3))
    assert len({chain_of(a, []), chain_of(b, []), chain_of(a, [b]), chain_of(a, [b, c]), chain_of(a, [c, b])}) == 5


def test_a_digest_of_rows_ignores_their_order_but_no_column() -> None:
    rows = ids.from_bytes(digest("row", number) for number in range(6))
    label = np.array([0, 1, 0, 1, 1, 0], np.uint8)
    order = np.array([3, 0, 5, 1, 4, 2])
    assert rows_digest(rows[order], {"label": label[order]}) == rows_digest(rows, {"label": label})
    assert rows_digest(rows, {"label": label[order]}) != rows_digest(rows, {"label": label})
    assert rows_digest(rows[:5], {"label": label[:5]}) != rows_digest(rows, {"label": label})
    assert rows_digest(rows, {}) != rows_digest(rows, {"label": label})


def test_differences_name_each_component_by_its_cause() -> None:
    old = dict(recipe(Config()).components)
    new = dict(recipe(Config(sigma=1.5, inner=Inner(strength=2.0))).components)
    new["env"] = {**new["env"], "numpy": "9.9"}
    new["artifact"] = {"model": "ab"}
    new["schema"] = {"x": ["<f8", [3], "dB"]}
    assert differences(old, new) == [
        ("config", "config.inner.strength 1.0 -> 2.0"),
        ("config", "config.sigma 1.0 -> 1.5"),
        ("artifact", "artifact.model nothing -> ab"),
        ("env", f"env.numpy {np.__version__} -> 9.9"),
        ("schema", "schema.x ['<f4', [3], 'dB'] -> ['<f8', [3], 'dB']"),
    ]
    assert differences(old, old) == []


STEPS: list[tuple[str, dict[str, Any]]] = [
    ("equalize", {"size": 64}),
    ("equalize", {"size": 64, "crop": "native"}),
    ("equalize", {"size": 64, "protocol": "native_crop"}),
    ("equalize", {"size": 64, "protocol": "jpeg96"}),
    ("equalize", {"size": 64, "protocol": "window", "sides": [70, 90], "qualities": [96]}),
    *(("face_crop", {"form": form, "size": 64}) for form in ("celebahq", "ffhq", "chai2020", "faceforensics")),
    ("landmarks", {"file": "list.txt"}),
    ("landmarks", {"pnet": "p", "rnet": "r", "onet": "o"}),
    ("segment", {"segmenter": "grid"}),
    ("segment", {"segmenter": "maps", "maps": "list.txt"}),
    ("segment", {"segmenter": "bisenet", "weights": "w.pth"}),
    ("invert", {"checkpoint": "g", "method": "latent", "perceptual": "p"}),
    ("invert", {"checkpoint": "g", "method": "latent+residuals", "perceptual": "p"}),
]


@pytest.mark.parametrize(("name", "given"), STEPS, ids=lambda one: one if isinstance(one, str) else str(one))
def test_settings_that_a_card_spells_out_are_read_again(name: str, given: dict[str, Any]) -> None:
    """A card has all settings of a step, defaults among them; a file has a word in place of its path."""
    kind = load_stage(registered()[name]).Config
    config = kind.model_validate_json(json.dumps(given))
    files = {one: "x" for one, info in kind.model_fields.items()
             if info.json_schema_extra == {"recipe": "content"} and getattr(config, one) is not None}  # fmt: skip
    rows = {one: getattr(config, one) for one, info in kind.model_fields.items() if info.is_required()}
    again = kind.model_validate_json(json.dumps({**rows, **recipe_config(config), **files}))
    assert recipe_config(again) == recipe_config(config)
