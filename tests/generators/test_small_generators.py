"""The embedded generators: files, cards, samples; and what they were trained on."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import load_file

from experiments.publish_generators import comparison, halved, raw_of
from pipeline.declaring.config import load_pipeline
from stages.generators import weights
from stages.spectra.profiles import profiles
from stages.translate import as_float
from stages.weights import safetensors_file

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
ENTRIES: dict[str, Any] = yaml.safe_load((MANIFESTS / "generators.yaml").read_text())
FAMILIES = ("progan", "stylegan", "stylegan2", "stargan2")
NAMES = list(ENTRIES)
DEFAULT = load_pipeline(ROOT / "pipeline.yaml")
DOMAINS = weights.read_header(MANIFESTS / ENTRIES["stargan2-raw"]["file"]).domains
SAMPLES = 96
TOLD = {
    "recipe",
    "settings",
    "seed",
    "data_fingerprint",
    "steps",
    "device",
    "figures",
    "samples",
    "licence",
    "photographs",
    "note",
    "trained_sha256",
    "stored_as",
}


def card_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MANIFESTS / ENTRIES[name]["card"]).read_text())
    return found


def test_each_family_is_there_raw_regularized_and_with_an_adversary() -> None:
    assert set(ENTRIES) == {f"{family}-{variant}" for family in FAMILIES for variant in ("raw", "R", "A")}


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_the_one_of_its_entry_small_and_told_about(name: str) -> None:
    entry = ENTRIES[name]
    content = (MANIFESTS / entry["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert len(content) == entry["size"] <= 4_000_000
    header = weights.read_header(MANIFESTS / entry["file"])
    assert (header.family, header.resolution) == (entry["family"], 64)
    card = card_of(name)
    assert set(card) >= TOLD
    with Image.open(MANIFESTS / Path(entry["card"]).parent / card["samples"]) as picture:
        assert picture.size == (7 * 64, 4 * 64)
    given = {key: value for key, value in header.architecture.items() if key in card["architecture"]}
    assert given == card["architecture"]


def photographs() -> np.ndarray[Any, Any]:
    """Training photographs of the embedded default at 64 pixels, of the domains of the StarGAN2."""
    table = ROOT / Path(DEFAULT.nodes["photos"].config.manifest).with_suffix(".csv")
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train" and row["domain"] in DOMAINS]
    pictures = []
    for row in rows[:: max(len(rows) // SAMPLES, 1)][:SAMPLES]:
        with Image.open(MANIFESTS / row["file"]) as image:
            pictures.append(np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.LANCZOS)))
    return np.stack(pictures)


def samples_of(name: str, reals: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One image per photograph: of seed k, or photograph k in the other domain."""
    torch.set_num_threads(1)
    header = weights.read_header(MANIFESTS / ENTRIES[name]["file"])
    family, generator = weights.load(MANIFESTS / ENTRIES[name]["file"])
    noise = family.NOISES[0] if family.NOISES else "none"
    drawn = [family.draw(header.architecture, seed, noise) for seed in range(len(reals))]
    rows = {key: torch.from_numpy(np.stack([row[key] for row in drawn])) for key in drawn[0]}
    if header.family == "stargan2":
        rows |= {"source": as_float(torch.from_numpy(reals)), "domain": torch.arange(len(reals)) % len(DOMAINS)}
    made: np.ndarray[Any, Any] = family.to_uint8(
        family.render(generator, rows, psi=1.0, cutoff=None, noise=noise)
    ).numpy()
    return made


def mean_profile(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    found = profiles(images, "jung21").astype(np.float64)
    low, high = found.min(axis=1, keepdims=True), found.max(axis=1, keepdims=True)
    mean: np.ndarray[Any, Any] = ((found - low) / (high - low)).mean(axis=0)
    return mean


@pytest.mark.stress
@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_samples_have_the_spectra_that_the_cards_tell_and_are_not_one_image(family: str) -> None:
    """On photographs of the project; the cards' figures are of all training photographs and of other samples."""
    reals, distances = photographs(), {}
    for variant in ("raw", "R", "A"):
        made = samples_of(f"{family}-{variant}", reals)
        assert made.std(axis=0).mean() > 10  # pixels differ between samples by far more than rounding
        distances[variant] = float(np.abs(mean_profile(made) - mean_profile(reals)).sum())
        told = card_of(f"{family}-{variant}")["figures"]["profile_distance"]
        assert distances[variant] == pytest.approx(told, abs=0.5)
    assert distances["R"] < distances["raw"]
    assert distances["A"] < 1.05 * distances["raw"]


@pytest.mark.parametrize("name", NAMES)
def test_the_cards_tell_the_recipes_of_the_experiment(name: str) -> None:
    nodes = load_pipeline(ROOT / ENTRIES[name]["origin"]).nodes
    config = nodes[name.replace("-", "_")].config.model_dump(mode="json")
    card = card_of(name)
    assert card["recipe"] == {key: config["recipe"][key] for key in card["recipe"]}
    assert set(config["recipe"]) - set(card["recipe"]) == {"network", "discriminator"}
    assert card["settings"] == {key: config[key] for key in card["settings"]}
    younger = {"stop_below", "stop_images", "stop_kimg"}  # of evasion alone
    assert set(config) - set(card["settings"]) - younger == {"recipe", "seed", "save_kimg", "pictures"}


@pytest.mark.parametrize("name", NAMES)
def test_the_cards_tell_senders_hours_and_what_the_samples_show(name: str) -> None:
    """Senders are those of the training rows that the pipeline gives to a generator of these domains."""
    with (MANIFESTS / "clothing.csv").open(newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        rows = [row for row in csv.DictReader(lines) if row["split"] == "train"]
    if name.startswith("stargan2"):
        rows = [row for row in rows if row["domain"] in DOMAINS]
    card = card_of(name)
    assert card["senders"] == len({row["group"] for row in rows})
    assert 0 < card["hours"] < 48
    assert card["grid"].endswith(".")
    assert card["grid"].count(".") == 1
    assert card["held_out"]["photographs"] > 100


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("-raw")])
def test_a_finetuned_one_moves_the_mean_profile_beyond_training_of_equal_length(name: str) -> None:
    """By more than two deviations; and a card says it where diversity or quality is a quarter below the raw one."""
    card, raw_name = card_of(name), f"{name.rpartition('-')[0]}-raw"
    raw = card_of(raw_name)["figures"]
    beyond = card["compared_with_none"]
    assert beyond["named"]
    assert beyond["gain"] > 2 * beyond["deviation"] > 0
    assert card["started_from"]["sha256"] == card_of(raw_name)["trained_sha256"]
    assert card["profile_distance_before"] == pytest.approx(raw["profile_distance"], rel=0.01)
    worse = card["figures"]["diversity"] < 0.75 * raw["diversity"] or card["figures"]["swd"] > 1.25 * raw["swd"]
    assert card["compared_with_raw"]["verdict"].startswith("Worse than the raw generator") == worse


def test_a_comparison_names_what_is_worse() -> None:
    raw = {"profile_distance": 2.0, "diversity": 0.8, "swd": 20.0}
    fine = comparison({"profile_distance": 1.0, "diversity": 0.7, "swd": 24.0}, raw)
    assert fine["ratios"] == {"profile_distance": 0.5, "diversity": 0.875, "swd": 1.2}
    assert fine["verdict"].startswith("Diversity and sliced Wasserstein distance are within 25%")
    bad = comparison({"profile_distance": 1.0, "diversity": 0.4, "swd": 30.0}, raw)
    assert bad["verdict"] == (
        "Worse than the raw generator: its diversity is 50% lower and its sliced Wasserstein distance to photographs "
        "is 50% higher."
    )


def test_a_finetuned_one_is_compared_with_the_raw_one_it_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is one of the store, of the folder written to, or a shipped one."""
    monkeypatch.chdir(ROOT)
    store, out = tmp_path / "store", tmp_path / "out"
    for folder, stem, told in ((store, "generator", 1.0), (out, "progan-small-raw", 2.0)):
        folder.mkdir()
        (folder / f"{stem}.safetensors").write_bytes(folder.name.encode())
        card = folder / ("card.json" if folder == store else f"{stem}.json")
        card.write_text(json.dumps({"figures": {"swd": told}}))

    def found(sha256: str) -> Any:
        return raw_of({"started_from": {"sha256": sha256}}, "progan", {"progan_raw": store}, out)

    assert found(hashlib.sha256(b"store").hexdigest()) == {"swd": 1.0}
    assert found(hashlib.sha256(b"out").hexdigest()) == {"swd": 2.0}
    for digest in (ENTRIES["progan-raw"]["sha256"], card_of("progan-raw")["trained_sha256"]):
        assert found(digest) == card_of("progan-raw")["figures"]
    with pytest.raises(SystemExit, match=r"finetuned from 0{16}\.\.\., which is neither trained nor shipped"):
        found("0" * 64)


@pytest.mark.parametrize("name", NAMES)
def test_networks_compute_in_float32_with_the_values_of_the_file(name: str) -> None:
    """Which holds half as many bits: it is read, sampled from, inverted and finetuned as if it held all of them."""
    path = MANIFESTS / ENTRIES[name]["file"]
    stored = load_file(path)
    assert {value.dtype for value in stored.values()} == {np.dtype(np.float16)}
    _, network = weights.load(path)
    for key, value in network.state_dict().items():
        assert value.dtype == torch.float32
        assert np.array_equal(value.numpy(), stored[key].astype(np.float32).reshape(value.shape))


@pytest.mark.parametrize("name", NAMES)
def test_entry_and_card_tell_the_same_gates_that_are_missed(name: str) -> None:
    assert ENTRIES[name].get("misses", []) == card_of(name).get("misses", [])


def test_what_is_published_is_rounded_to_half_precision_and_described_alike(tmp_path: Path) -> None:
    values = np.array([1.0001, -3.14159, 2.0**-15], np.float32)
    path = tmp_path / "generator.safetensors"
    path.write_bytes(safetensors_file.pack({"x": values}, {"family": "f"}))
    (tmp_path / "half.safetensors").write_bytes(halved(path))
    assert load_file(tmp_path / "half.safetensors")["x"].tolist() == [1.0, -3.140625, 2.0**-15]
    assert safetensors_file.read_header(tmp_path / "half.safetensors")[0] == {"family": "f"}
    path.write_bytes(safetensors_file.pack({"x": values * 1e6}, {}))
    with pytest.raises(SystemExit, match="x has values beyond float16; it cannot be stored in half precision"):
        halved(path)
