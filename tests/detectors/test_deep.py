"""The composed detector: `cnn` against a plain loop, its parts against slow readings, what planning refuses."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detector_examples import CASES, Killed, MemoryExamples, Trained, equal, maps
from PIL import Image
from torch import nn
from torch.nn import functional

from detectors import cnn, composition, deep
from detectors.augmentation import flip
from detectors.augmenting import applied
from detectors.choosing import detector_config
from detectors.composed import Composed, Learning
from detectors.contract import Control, Diverged, State
from detectors.draws import uniforms
from detectors.heads import Classes, Logit, Patches
from detectors.normalization import inverse_deviation
from detectors.optimization import Adam, Sgd, Training, optimizer_of
from detectors.preprocessing import CenterCrop, Preprocessing, Resize, apply, kind_of
from detectors.schedules import constant, patience, steps
from detectors.seeding import seeded
from pipeline.stage import MAP, MAPS, PICTURE, SPECTRA

# `cnn`, written as one loop


def plain_network(generator: torch.Generator, channels: int, sides: int, widths: list[int], pool: bool) -> Any:
    """Convolutions, weight and bias of the dense unit, drawn in the order of the family."""
    places = 1 if pool else (sides // 2 ** (len(widths) - 1)) ** 2
    weight = torch.randn(widths[-1] * places, generator=generator) / (widths[-1] * places) ** 0.5
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(zip([channels, *widths], widths, strict=False)):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        drawn = torch.randn(convolution.weight.shape, generator=generator)
        convolution.weight.data = drawn * 2.0**0.5 / (9 * inputs) ** 0.5
        layers += [nn.AvgPool2d(2)] * (number > 0) + [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers), nn.Parameter(weight), nn.Parameter(torch.zeros(()))


def plain_training(trained: Trained, scaled: Any, pool: bool) -> tuple[dict[str, Any], list[float]]:
    """Tensors of the best epoch, and validation losses."""
    config: Any = trained.config
    channels = 3
    features, weight, bias = plain_network(torch.Generator().manual_seed(5), channels, 16, list(config.widths), pool)
    parameters = [weight, bias, *features.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    batches = trained.train.batches(config.batch_size, 5, True, "cpu")

    def logits(rows: torch.Tensor) -> torch.Tensor:
        made = features(scaled(rows).contiguous(memory_format=torch.channels_last))
        flat = made.mean(dim=(2, 3)) if pool else made.contiguous().flatten(1)
        return (flat * weight).sum(dim=1) + bias

    losses: list[float] = []
    best: dict[str, Any] = {}
    for _ in range(config.epochs):
        features.train()
        for rows, labels, _ in batches:
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(logits(rows), labels.float()).backward()
            optimizer.step()
        features.eval()
        found = []
        with torch.inference_mode():
            for block in trained.val.blocks(config.micro_batch):
                padded = np.zeros((config.micro_batch, *block.shape[1:]), block.dtype)
                padded[: len(block)] = block
                found.append(logits(torch.from_numpy(padded))[: len(block)].double().numpy())
        decisions = np.concatenate(found)
        each = np.logaddexp(0, np.where(trained.val.labels == 1, -decisions, decisions))
        losses.append(float((each[trained.val.labels == 1].mean() + each[trained.val.labels == 0].mean()) / 2))
        if losses[-1] == min(losses) and losses.count(losses[-1]) == 1:
            tensors = {"weight": weight, "bias": bias, **{f"features.{k}": v for k, v in features.state_dict().items()}}
            best = {name: np.array(tensor.detach().numpy()) for name, tensor in tensors.items()}
    return best, losses


@pytest.mark.parametrize("case", ["cnn-standardize", "cnn-pixels", "cnn-none"])
def test_cnn_learns_the_weights_of_a_plain_loop_to_the_bit(case: str) -> None:
    trained = Trained(*CASES[case])
    values = trained.train.features.astype(np.float64)
    mean, scale = (torch.from_numpy(x) for x in (values.mean(0).astype(np.float32), inverse_deviation(values.var(0))))
    scaled = {
        "cnn-standardize": lambda rows: (rows.float() - mean) * scale,
        "cnn-pixels": lambda rows: (rows.float() / 127.5 - 1).movedim(-1, 1),
        "cnn-none": lambda rows: rows.float(),
    }[case]
    if case == "cnn-standardize":  # statistics are taken in one pass, a unit of the last place away from these
        mean, scale = (torch.from_numpy(trained.state.tensors[name]) for name in ("mean", "scale"))
    tensors, losses = plain_training(trained, scaled, case != "cnn-standardize")
    assert trained.state.plain["validation_loss"] == losses
    assert trained.state.tensors.keys() - {"mean", "scale"} == tensors.keys()
    for name, value in tensors.items():
        assert value.tobytes() == trained.state.tensors[name].tobytes(), name


def test_cnn_is_a_short_way_to_write_the_composition() -> None:
    config: Any = detector_config(
        {"preset": "fft2d-cnn", "band": "low", "weight_decay": 0.5, "epochs": 3, "widths": [4]}
    )
    assert cnn.composed(config) == detector_config({
        "family": "deep",
        "feature": "fft2d",
        "network": {"architecture": "small_cnn", "widths": [4], "places": "all"},
        "preprocessing": {"scaling": "percentile", "band": "low"},
        "training": {
            "optimizer": {"method": "adam", "weight_decay": 0.5, "decoupled": True},
            "stop": {"rule": "patience", "epochs": 5},
            "epochs": 3,
        },
    })  # fmt: skip
    assert deep.describe(cnn.composed(config)) == cnn.describe(config) == "CNN on fft2d (low band)"


def test_pipelines_of_today_mean_what_they_meant() -> None:
    """The presets with `family: cnn` that the embedded pipeline names, as the fields that they had."""
    wanted = {
        "dct2d-cnn": ("dct2d", "standardize", "flatten"),
        "fft2d-cnn": ("fft2d", "percentile", "flatten"),
        "residual-pixel": ("residual_pixel", "none", "pool"),
        "pixel-cnn": ("image", "pixels", "pool"),
    }
    text = (Path(__file__).parents[2] / "pipeline.yaml").read_text()
    for name, (feature, normalization, head) in wanted.items():
        assert name in text
        assert detector_config(name).model_dump() == {
            "family": "cnn", "feature": feature, "normalization": normalization, "band": None, "widths": (8, 16, 32),
            "head": head, "epochs": 50, "patience": 5, "batch_size": 32, "learning_rate": 1e-3, "weight_decay": 0.0,
            "micro_batch": 32,
        }  # fmt: skip


# Preprocessing


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("sides", "size"), [((24, 17), 9), ((9, 12), 21), ((16, 16), 15)])
def test_resizing_is_that_of_pillow(name: str, sides: tuple[int, int], size: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *sides, 3), dtype=np.uint8)
    settings = Preprocessing(resize=Resize(size=size, sides="both", filter=name))  # type: ignore[arg-type]
    found = apply(settings, torch.from_numpy(images), "last", None, None).numpy()
    how = Image.Resampling[name.upper()]
    expected = np.stack([np.asarray(Image.fromarray(one).resize((size, size), how)) for one in images])
    difference = np.abs(found.transpose(0, 2, 3, 1) - expected)
    assert difference.max() <= 1  # Pillow's weights are whole numbers, and a half may go either way
    assert (difference > 0).mean() < 0.05


def test_the_shorter_side_decides_and_the_middle_stays() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 10, 15, 3), dtype=np.uint8)
    settings = Preprocessing(resize=Resize(size=20, filter="bilinear"), crop=CenterCrop(size=20))
    found = apply(settings, torch.from_numpy(images), "last", None, None).numpy().transpose(0, 2, 3, 1)
    for one, image in zip(found, images, strict=True):
        whole = np.asarray(Image.fromarray(image).resize((30, 20), Image.Resampling.BILINEAR))
        assert np.abs(one - whole[:, 5:25]).max() <= 1


def test_a_crop_puts_zeros_around_what_is_smaller_before_scaling() -> None:
    images = torch.full((1, 3, 6, 1), 255, dtype=torch.uint8)
    settings = Preprocessing(crop=CenterCrop(size=4, padding="zeros"), scaling="unit", mean=(0.5,), deviation=(0.25,))
    found = apply(settings, images, "last", None, None)[0, 0]
    assert found.tolist() == [[2.0] * 4] * 3 + [[-2.0] * 4]  # 1 row below, as torchvision


def test_means_and_deviations_are_those_of_the_channels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    settings = Preprocessing(scaling="unit", mean=(0.1, 0.2, 0.3), deviation=(0.5, 0.25, 1.0))
    expected = (images / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 1.0]
    found = apply(settings, torch.from_numpy(images), "last", None, None).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


# Augmentation


def test_draws_belong_to_seed_row_epoch_and_name() -> None:
    ids = np.arange(40, dtype=">u8").view("V8").astype("V16")
    whole = uniforms(3, ids, 1, "flip/mirrored", 6)
    assert whole.shape == (40, 6)
    assert uniforms(3, ids[::-1][:7], 1, "flip/mirrored", 6).tolist() == whole[::-1][:7].tolist()
    others = [
        uniforms(4, ids, 1, "flip/mirrored", 6),
        uniforms(3, ids, 2, "flip/mirrored", 6),
        uniforms(3, ids, 1, "x", 6),
    ]
    assert all((other != whole).all() for other in others)
    assert len(np.unique(whole)) == whole.size
    key = b"".join(len(part).to_bytes(8, "little") + part for part in (b"3", b"1", b"flip/mirrored"))
    digest = hashlib.sha256(key + bytes(ids[5]) + b"\x00").digest()
    assert whole[5, :4].tolist() == [
        (int.from_bytes(digest[8 * k : 8 * k + 8], "little") >> 11) / 2**53 for k in range(4)
    ]


def test_images_are_mirrored_as_drawn_and_keep_their_dtype() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    drawn = {"mirrored": np.array([[0.4], [0.6], [0.0]])}
    found = flip.apply(flip.Flip(), torch.from_numpy(images), lambda name: drawn[name]).numpy()
    assert found.dtype == np.uint8
    for one, image, mirrored in zip(found, images, (True, False, True), strict=True):
        assert (one == (image[:, ::-1] if mirrored else image)).all()


def test_a_training_sees_mirrored_rows_whatever_the_order_and_validation_does_not() -> None:
    trained = Trained(*CASES["deep"])
    config: Any = trained.config
    seen: dict[tuple[int, bytes], bytes] = {}
    ids = np.arange(8, dtype=">u8").view("V8").astype("V16")
    rows = torch.from_numpy(trained.train.features[:8])
    for epoch in (0, 1):
        for order in (np.arange(8), np.arange(8)[::-1].copy()):
            found = applied(config.augmentation, 5, epoch, rows[order], ids[order]).numpy()
            for place, one in zip(order, found, strict=True):
                assert seen.setdefault((epoch, bytes(ids[place])), one.tobytes()) == one.tobytes()
    plain = {one.tobytes() for one in rows.numpy()}
    assert 2 < sum(value in plain for value in seen.values()) < 14
    never = detector_config({**config.model_dump(mode="json"), "augmentation": []})
    other = Trained.__new__(Trained)
    other.__dict__.update(trained.__dict__ | {"config": never})
    assert not equal(other.fit(), trained.state)
    assert trained.module.decision(never, trained.state, trained.val.features).tolist() == (
        trained.module.decision(config, trained.state, trained.val.features).tolist()
    )


@pytest.mark.parametrize(
    ("axes", "kind"), [(PICTURE, "image"), (MAPS, "residual"), (MAP, "residual"), (SPECTRA, "spectrum")]
)
def test_axes_say_what_an_augmentation_would_act_on(axes: tuple[str, ...], kind: str) -> None:
    assert kind_of(axes) == kind
    config = detector_config("pixel-compact")
    shape = (16, 16, 3)[: len(axes)]
    if kind == "image":
        config.check(shape, axes)
    else:
        with pytest.raises(ValueError, match=f"'flip' acts on image rows, but 'image' is of kind {kind}; remove it$"):
            config.check(shape, axes)


# Heads


def test_decisions_and_losses_of_heads_are_those_of_their_formulas() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (5, 2, 3, 4))
    labels = np.array([0, 1, 1, 0, 1])
    outputs, wanted = torch.from_numpy(logits), torch.from_numpy(labels).double()
    odds = np.exp(logits[:, 1] - logits[:, 0]).reshape(5, -1)
    probability = odds / (1 + odds)
    of_label = np.where(labels[:, None] == 1, probability, 1 - probability)
    patches = Patches()
    assert float(patches.loss(outputs, wanted)) == pytest.approx(-np.log(of_label).mean())
    share = probability.mean(axis=1)
    np.testing.assert_allclose(patches.decision(outputs), np.log(share / (1 - share)), rtol=1e-12)
    means = np.log(odds).mean(axis=1)
    np.testing.assert_allclose(Patches(ensemble="before_softmax").decision(outputs), means, rtol=1e-12)
    votes = (odds > 1).sum(axis=1)
    np.testing.assert_allclose(
        Patches(ensemble="vote").decision(outputs), np.log((votes + 0.5) / (12 - votes + 0.5)), rtol=1e-12
    )
    np.testing.assert_allclose(patches.fake_share(outputs), votes / 12, rtol=1e-6)
    flat = logits.mean(axis=(2, 3))
    pair = functional.cross_entropy(torch.from_numpy(flat), torch.from_numpy(labels))
    assert float(Classes().loss(outputs, wanted)) == pytest.approx(float(pair))
    np.testing.assert_allclose(Classes().decision(outputs), flat[:, 1] - flat[:, 0], rtol=1e-12)
    one = logits[:, :1]
    expected = functional.binary_cross_entropy_with_logits(torch.from_numpy(one.mean(axis=(1, 2, 3))), wanted)
    assert float(Logit().loss(torch.from_numpy(one), wanted)) == pytest.approx(float(expected))


def test_cells_that_are_all_sure_still_give_finite_decisions() -> None:
    outputs = torch.stack([torch.full((2, 3, 3), -1e4), torch.full((2, 3, 3), 1e4)], dim=1)
    for ensemble in ("after_softmax", "before_softmax", "vote"):
        assert torch.isfinite(Patches(ensemble=ensemble).decision(outputs)).all()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the head 'patches' reads a map of logits, but this network gives one"):
        Patches().decision(torch.zeros(2, 2))


# Training


def test_rules_of_rates_and_stops_read_the_history() -> None:
    falls = steps.Steps(after=(2, 4), by=0.1)
    assert [steps.factor(falls, [0.0] * done) for done in range(6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert constant.factor(constant.Constant(), [1.0, 2.0]) == 1.0
    rule = patience.Patience(epochs=2)
    traces = {(): False, (1.0,): False, (1.0, 2.0, 1.0): False, (1.0, 2.0, 1.0, 2.0): True, (2.0, 1.0, 1.5): True}
    assert {trace: patience.finished(rule, trace) for trace in traces} == traces
    assert [steps.halved(done, 300) for done in (-5, 0, 299, 300, 601)] == [1, 1, 1, 0.5, 0.25]


def test_optimizers_get_their_settings() -> None:
    parameters = [nn.Parameter(torch.zeros(1))]
    made = optimizer_of(Training(learning_rate=0.5, optimizer=Sgd(momentum=0.8, dampening=0.1)), parameters)
    assert isinstance(made, torch.optim.SGD)
    assert {key: made.defaults[key] for key in ("lr", "momentum", "dampening")} == {
        "lr": 0.5, "momentum": 0.8, "dampening": 0.1
    }  # fmt: skip
    for decoupled, kind in ((False, torch.optim.Adam), (True, torch.optim.AdamW)):
        made = optimizer_of(Training(optimizer=Adam(weight_decay=0.1, decoupled=decoupled)), parameters)
        assert type(made) is kind
        assert made.defaults["weight_decay"] == 0.1


def test_the_rate_of_each_epoch_is_that_of_the_rule() -> None:
    trained = Trained(*CASES["deep"])
    config = detector_config({
        **trained.config.model_dump(mode="json"),
        "training": {"epochs": 4, "batch": 16, "learning_rate": 0.5, "rate": {"rule": "steps", "after": [1, 3]},
                     "optimizer": {"method": "sgd", "momentum": 0.0}},
    })  # fmt: skip
    rates: list[float] = []
    saved: list[State] = []

    def save(state: State) -> None:
        saved.append(state)

    learning = Learning(config, trained.train, trained.val, Control(seed=5))  # type: ignore[arg-type]
    step = learning._step
    learning._step = lambda *given: (rates.append(learning.optimizer.param_groups[0]["lr"]), step(*given))[1]  # type: ignore[func-returns-value, method-assign]
    from detectors.training import follow

    follow(learning, learning.epoch, deep.Epochs(config), Control(save=save))  # type: ignore[arg-type]
    assert rates == pytest.approx([0.5] * 6 + [0.05] * 12 + [0.005] * 6)
    assert [entry["epoch"] for entry in saved[-1].plain["course"]["log"]] == [1, 2, 3, 4]


def test_the_epoch_is_the_one_that_the_selected_number_chooses() -> None:
    settings, make = CASES["deep"]
    for select in ("loss", "accuracy"):
        logs: list[Any] = []
        chosen = detector_config({**settings, "training": {**settings["training"], "select": select}})
        state = deep.fit(chosen, make(96, 1), make(40, 2), Control(seed=5, log=logs.append))  # type: ignore[arg-type]
        values = [(-1 if select == "loss" else 1) * entry[f"validation_{select}"] for entry in logs[-1]]
        assert state.plain["epoch"] == values.index(max(values)) + 1
        assert state.plain["ended_by"] == "epochs"
        assert state.plain["still_improving"] == (values.index(max(values)) == len(values) - 1)


def test_the_last_epoch_stays_where_nothing_chooses() -> None:
    """Validation rows with exchanged labels find each epoch worse than the one before."""
    settings, make = CASES["deep"]
    train, val = make(96, 1), make(40, 2)
    exchanged: Any = MemoryExamples(val.features, 1 - val.labels)
    found = {}
    for select in ("last", "loss"):
        config: Any = detector_config({**settings, "training": {**settings["training"], "select": select, "epochs": 3}})
        found[select] = deep.fit(config, train, exchanged, Control(seed=5))  # type: ignore[arg-type]
    assert {select: state.plain["epoch"] for select, state in found.items()} == {"last": 3, "loss": 1}
    assert not found["last"].plain["still_improving"]
    losses = found["last"].plain["validation_loss"]
    assert losses == found["loss"].plain["validation_loss"] == sorted(losses)
    assert not equal(*found.values())


def test_a_row_that_is_left_over_ends_no_training() -> None:
    """Batch normalization has no spread of one row whose map is one pixel; rows are left over in turns."""
    config = detector_config({
        "family": "deep", "feature": "image", "network": {"architecture": "resnet", "depth": 18, "width": 8},
        "training": {"epochs": 1, "batch": 16},
    })  # fmt: skip
    examples: Any = maps(33, 0, "uint8", (32, 32, 3))
    assert deep.fit(config, examples, examples, Control())
    few: Any = maps(2, 0, "uint8", (32, 32, 3))
    assert deep.fit(config, few, few, Control())


def test_a_training_that_diverges_says_so() -> None:
    settings, make = CASES["deep"]
    config: Any = detector_config({**settings, "training": {**settings["training"], "learning_rate": 1e30}})
    with pytest.raises(
        Diverged, match=r"^training diverged: '\w+' is (nan|inf) after 0\.\d thousand .*; lower learning"
    ):
        deep.fit(config, make(96, 1), make(40, 2), Control(seed=5))


def test_a_killed_training_of_a_composition_goes_on_with_the_same_trajectory() -> None:
    trained = Trained(*CASES["deep"])
    kept: list[State] = []

    def save(state: State) -> None:
        kept.append(state)
        raise Killed

    control = Control(seed=5, restore=lambda: kept[-1] if kept else None, save=save)
    for _ in range(8):
        with pytest.raises(Killed):
            trained.fit(control)
    assert equal(trained.fit(control), trained.state)


def test_a_patch_head_trains_on_cells_and_scores_rows_of_other_sizes_after_resizing() -> None:
    config: Any = detector_config({
        "family": "deep", "feature": "image", "network": {"architecture": "compact"},
        "preprocessing": {"resize": {"size": 16, "sides": "both"}, "scaling": "unit"},
        "head": {"kind": "classes"}, "training": {"epochs": 1},
    })  # fmt: skip
    train = maps(16, 1, "uint8", (16, 16, 3))
    state = deep.fit(config, train, train, Control())
    assert config.resamples
    larger = train.features.repeat(2, axis=1).repeat(2, axis=2)
    assert deep.score(config, state, larger).shape == (16,)
    with pytest.raises(ValueError, match=r"trained on rows of shape \(16, 16, 3\), but got \(16, 16, 1\)"):
        deep.score(config, state, train.features[..., :1])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"network": {"architecture": "compat"}},
            "'network' is a mapping; expected a mapping with 'architecture', one of",
        ),
        (
            {"network": {"architecture": "compact", "widhts": [4]}},
            "'network.widhts' is not .*; did you mean 'widths'",
        ),
        ({"training": {"batch": 1}}, "'training.batch' is 1; expected greater than or equal to 2"),
        ({"training": {"select": "cell_accuracy"}}, "has no effect without the head 'patches'; select accuracy"),
        ({"training": {"select": "last", "stop": {"rule": "patience"}}}, "'select: last' leaves nothing that a rule"),
        ({"training": {"select": "last", "stop": None, "rate": {"rule": "plateau"}}}, "one of constant, quarter_co"),
        ({"augmentation": [{"augmentation": "flip"}] * 2}, "'augmentation' is flip, flip; expected different ones"),
        ({"preprocessing": {"band": "low"}}, "'band' has no effect with scaling 'none'; remove it"),
        ({"preprocessing": {"crop": {}}}, "lacks 'preprocessing.crop.size'"),
        ({"preprocessing": {"crop": {"size": 8}, "scaling": "standardize"}}, "'standardize' needs rows as stored; rem"),
        ({"preprocessing": {"mean": [0.5]}}, "'mean' and 'deviation' need as many numbers each; give both or neither"),
        ({"preprocessing": {"mean": [0.5], "deviation": [0.0]}}, "expected numbers above 0"),
        (
            {"training": {"optimizer": {"method": "adam", "decoupled": True}}},
            "'decoupled' has no effect with weight_dec",
        ),
    ],
)
def test_a_wrong_part_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        detector_config({"preset": "pixel-compact", **changes})
    assert "\n" not in str(caught.value)


def test_planning_refuses_rows_that_are_smaller_than_the_crop() -> None:
    crop = detector_config({"preset": "pixel-compact", "preprocessing": {"crop": {"size": 32}}})
    with pytest.raises(
        ValueError, match="rows of 16 x 16 are smaller than the crop of 32; take a smaller crop, resize"
    ):
        crop.check((16, 16, 3), PICTURE)
    resized = detector_config({
        "preset": "pixel-compact", "preprocessing": {"crop": {"size": 32}, "resize": {"size": 40}}
    })  # fmt: skip
    resized.check((16, 16, 3), PICTURE)
    means = detector_config({"preset": "pixel-compact", "preprocessing": {"mean": [0, 0], "deviation": [1, 1]}})
    with pytest.raises(ValueError, match="'mean' has 2 numbers, but the rows have 3 channels"):
        means.check((16, 16, 3), PICTURE)


def test_half_precision_is_the_networks_alone() -> None:
    settings = detector_config({"preset": "pixel-compact", "training": {"precision": "bfloat16"}}).model_dump()
    config = composition.Config.model_validate(settings)
    with seeded(0):
        network = Composed(config, (16, 16, 3), PICTURE).eval()
    rows = torch.from_numpy(maps(4, 1, "uint8", (16, 16, 3)).features)
    seen: list[torch.dtype] = []
    first: Any = network.network.convolutions[0]  # type: ignore[index, union-attr]
    first.register_forward_hook(lambda module, given, made: seen.extend([given[0].dtype, made.dtype]))
    with torch.inference_mode():
        outputs = network(rows)
    assert seen == [torch.float32, torch.bfloat16]
    assert outputs.dtype == torch.float32
    assert all(one.dtype == torch.float32 for one in network.parameters())


def test_examples_without_moments_take_those_of_the_training_rows() -> None:
    rows = maps(12, 1, "float32")
    given = Control(moments=(np.full((3, 16, 16), 2.0), np.full((3, 16, 16), 4.0)))
    config: Any = detector_config({"preset": "dct2d-cnn", "epochs": 1, "widths": [2], "batch_size": 4})
    state = cnn.fit(config, rows, MemoryExamples(rows.features, rows.labels), given)
    assert (state.tensors["mean"] == 2).all()
    assert (state.tensors["scale"] == 0.5).all()
