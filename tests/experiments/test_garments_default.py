"""The change of the embedded default to garments fits the pages and pipelines as they stand."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import garments_default
from pipeline.declaring.config import load_pipeline
from stages.generators import stargan2, weights

ROOT = Path(__file__).parents[2]
SMALL = {"resolution": 64, "c_dim": 3, "z_dim": 2, "w_dim": 2, "width": 2, "max_width": 2, "mapping_width": 2}
DOMAINS = ("dress", "pants", "t-shirt")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of what is changed, with generators that say that they are of garments."""
    for name in garments_default.CHANGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for name in ("weights", "networks.yaml"):
        (manifests / name).symlink_to(ROOT / "manifests" / name)
    entries = yaml.safe_load((ROOT / "manifests" / "generators.yaml").read_text())
    tensors = {name: value.numpy() for name, value in stargan2.build(SMALL).state_dict().items()}
    weights.save(manifests / "small.safetensors", "stargan2", SMALL, tensors, domains=DOMAINS)
    for entry in entries.values():
        entry["origin"] = "experiments/garments.yaml"
        if entry["family"] == "stargan2":
            content = (manifests / "small.safetensors").read_bytes()
            entry |= {"file": "small.safetensors", "sha256": hashlib.sha256(content).hexdigest()}
    write(tmp_path, entries)
    return tmp_path


def write(root: Path, entries: Mapping[str, Any]) -> None:
    (root / "manifests" / "generators.yaml").write_text(yaml.safe_dump(dict(entries), sort_keys=False))


def embedded(data: Path, out: Path) -> int:
    """In place of the 600 photographs, which this asks nothing of."""
    (out / "garments.yaml").write_text("name: garments\nlicence: CC0-1.0\nrows: garments.csv\n")
    (out / "garments.csv").write_text("file\n")
    return 0


def test_the_pipeline_and_the_pages_name_garments_afterwards(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(garments_default, "embed", embedded)
    before = {name: (root / name).read_text() for name in garments_default.CHANGES}
    arguments = ["garments_default", "--data", "data", "--root", str(root)]
    monkeypatch.setattr("sys.argv", arguments)
    garments_default.main()
    assert {name: (root / name).read_text() for name in before} == before
    assert f"would change {root / 'pipeline.yaml'}" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*arguments, "--apply"])
    garments_default.main()
    pipeline = load_pipeline(root / "pipeline.yaml")
    assert pipeline.nodes["photos"].config.manifest == "manifests/garments.yaml"
    text = (root / "pipeline.yaml").read_text()
    assert 'where: "domain in [dress, pants, t-shirt]", take: 125' in text
    for name in garments_default.CHANGES:
        left = (root / name).read_text()
        assert not [word for word in ("budgie", "421", "grocer", "photos.yaml") if word in left], name


def test_nothing_is_changed_before_all_generators_are_of_garments(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = yaml.safe_load((root / "manifests" / "generators.yaml").read_text())
    entries["progan-R"]["origin"] = "experiments/generators.yaml"
    write(root, entries)
    before = (root / "pipeline.yaml").read_text()
    monkeypatch.setattr("sys.argv", ["garments_default", "--data", "data", "--root", str(root), "--apply"])
    with pytest.raises(SystemExit, match="nothing was changed"):
        garments_default.main()
    assert (
        "progan-R is of experiments/generators.yaml; publish it from experiments/garments.yaml"
        in capsys.readouterr().out
    )
    assert (root / "pipeline.yaml").read_text() == before
    assert not (root / "manifests" / "garments.csv").exists()


def test_a_text_that_was_reworded_is_named(root: Path) -> None:
    with pytest.raises(SystemExit, match=r"pipeline\.yaml has 0 times 'no such text'; expected it once"):
        garments_default.changed(root, {"pipeline.yaml": (("no such text", ""),)})


def test_domains_are_those_of_the_published_network(root: Path) -> None:
    manifest = root / "manifests" / "generators.yaml"
    assert garments_default.missing(manifest) == []
    tensors = {name: value.numpy() for name, value in stargan2.build(SMALL).state_dict().items()}
    weights.save(root / "manifests" / "small.safetensors", "stargan2", SMALL, tensors, domains=("a", "b", "c"))
    assert garments_default.missing(manifest)[0] == "stargan2-raw has the domains a, b, c; change DOMAINS"
