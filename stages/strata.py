"""Stage `strata`: fakes of each source from the lowest to the highest score, and whether better ones have lower scores.

Wang et al. 2020 (figure 6) show images by score and judge by eye. Beside the pictures stands a number: the rank
correlation of the score with a stand-in for quality, how near an image comes to a real one in the layers of a
perceptual network, and with what the generator's own discriminator says. Nothing is claimed by eye alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.digests import hash_rank
from pipeline.errors import StageError
from pipeline.stage import (
    FAKE,
    REAL,
    FitContext,
    Input,
    Kind,
    Rows,
    Schema,
    Stage,
    StageConfig,
    file_setting,
    setting,
)
from stages.evaluation.pairing import Key, Scored
from stages.evaluation.score_strata import ascending, correlated, middles, stratum
from stages.generators import discriminator_file
from stages.images.image_field import image_size
from stages.training.networks import prepare

FORMAT = 1
RESULTS = "strata.json"
PERCEPTUAL, JUDGE = "stages.resynthesis.perceptual", "stages.generators.discriminator_file"
EMBEDDED = "manifests/networks.yaml#perceptual-small"
BLOCK_ROWS = 64


class StrataConfig(StageConfig):
    """How many images, and of which variant."""

    columns: int = setting(5, ge=2, le=50, description="strata of equal numbers of images")
    rows: int = setting(4, ge=1, le=50, description="images of each: the one in its middle, and others by hash")
    variant: str = setting("raw", description="variant of the evaluation")
    perceptual: str = file_setting(EMBEDDED, description="network of the distances: VGG-19, or the small one")
    checkpoint: str | None = file_setting(
        None,
        description="the generator of these fakes: the node that trained it, the file of its discriminator, or an "
        "official file with both; what the discriminator says is a second stand-in for quality",
    )


class Strata(Stage):
    """Artifact: strata.json, and strata-NUMBER-SOURCE.png, a column per stratum, low scores on the left."""

    name: ClassVar[str] = "strata"
    kind: ClassVar[Kind] = Kind.REDUCE
    makes: ClassVar[str] = "strata"
    Config: ClassVar[type[StageConfig]] = StrataConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("artifact", description="an 'evaluate' node", takes="evaluation"),
        "on": Input("rows", description="the images of the rows that it scored, of both classes"),
        "checkpoint": Input("artifact", required=False, takes="generator", description="the generator of these fakes"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "pillow", "torch")
    network: ClassVar[bool] = True
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "source")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def schema(self, config: StrataConfig, inputs: Mapping[str, Schema]) -> Schema:
        """No rows come out; raises ValueError where the rows are no pictures."""
        height, _ = image_size(inputs["on"], self.name)
        if "checkpoint" in inputs:
            discriminator_file.check(self.name, inputs["checkpoint"], height)
        return {}

    def modules(self, config: StrataConfig, files: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """Those of the perceptual network."""
        named = import_module(PERCEPTUAL).modules(files["perceptual"]) if "perceptual" in files else ()
        judge = (JUDGE, *discriminator_file.modules(files["checkpoint"])) if "checkpoint" in files else ()
        return (PERCEPTUAL, *named, *judge)

    def fit(self, config: StrataConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write the artifact."""
        prepare(ctx.device, ctx.threads)
        found: Any = ctx.artifacts["of"]
        artifact = found[0] if isinstance(found, tuple) else found
        scored = Scored(artifact.path)
        if config.variant not in scored.results["variants"]:
            others = ", ".join(scored.results["variants"])
            raise StageError(f"'{artifact.node}' has no variant '{config.variant}', it has {others}; set variant")
        rows = scored.rows(config.variant)
        on: Any = views["on"]
        places = _places(on)
        known = np.array([number for number, key in enumerate(rows.keys) if key in places], dtype=np.int64)
        labels = rows.labels[known]
        if not (labels == FAKE).any() or not (labels == REAL).any():
            raise StageError("'on' holds no images of scored rows of both classes; name the node that they come from")
        where = np.array([places[rows.keys[number]] for number in known.tolist()], dtype=np.int64)
        proxies = {"": _nearness(config, on, where[labels == REAL], where, ctx)}
        if "checkpoint" in ctx.artifacts or "checkpoint" in ctx.files:
            proxies["discriminator"] = _judged(on, where, labels == FAKE, ctx)
        sources = np.array([rows.keys[number][1] for number in known.tolist()])
        results: dict[str, Any] = {
            "format": FORMAT,
            "model": {name: scored.results["model"][name] for name in ("node", "detector")},
            "variant": config.variant,
            "columns": config.columns,
            "quality": f"less the distance to the nearest real image, {Path(ctx.files['perceptual']).name}",
            "sources": [],
        }
        for number, source in enumerate(sorted(set(sources[labels == FAKE].tolist()))):
            mine = np.flatnonzero((labels == FAKE) & (sources == source))
            entry = _source(config, rows, known[mine], {name: values[mine] for name, values in proxies.items()})
            entry |= {"source": source, "sheet": f"strata-{number:02d}-{_word(source)}.png"}
            shown = np.array([place for column in entry.pop("places") for place in column]).reshape(config.columns, -1)
            _write_sheet(ctx.out / entry["sheet"], on, where[mine][shown])
            results["sources"].append(entry)
        text = json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (ctx.out / RESULTS).write_text(text, encoding="utf-8", errors="backslashreplace")
        ctx.facts["spearman"] = {entry["source"]: entry["spearman"] for entry in results["sources"]}


def _source(
    config: StrataConfig, rows: Any, mine: NDArray[np.int64], proxies: Mapping[str, NDArray[np.float64]]
) -> dict[str, Any]:
    """Of the fakes of a source: which are shown, and both correlations with their intervals, by each stand-in.

    proxies: "" -> nearness, whose numbers stand in the entry itself, and others by name
    places: position in `mine` of the images of each column, the middle one first
    """
    scores = rows.scores[mine].astype(np.float64)
    ids = [rows.keys[number][2] for number in mine.tolist()]
    order = ascending(scores, ids)
    ranks = hash_rank(np.frombuffer(b"".join(ids), "V16"), "strata", 0)
    places = []
    count = min(config.rows, max(1, len(mine) // config.columns))
    for column, middle in enumerate(middles(len(mine), config.columns)):
        others = sorted((order[rank] for rank in stratum(len(mine), config.columns, column) if rank != middle),
                        key=lambda place: int(ranks[place]))  # fmt: skip
        places.append([int(order[middle]), *map(int, others[: count - 1])])
    least = min(map(len, places))
    groups = np.unique(rows.groups[mine], return_inverse=True)[1]
    found: dict[str, Any] = {"images": len(mine), "places": [one[:least] for one in places]}
    found["ids"] = [[ids[place].hex() for place in one[:least]] for one in places]
    found["scores"] = [[float(scores[place]) for place in one[:least]] for one in places]
    for proxy, quality in proxies.items():
        entry = found.setdefault(proxy, {}) if proxy else found
        for name, (value, interval) in correlated(scores, quality, groups, 0).items():
            entry[name] = None if np.isnan(value) else value
            entry[f"{name}_interval"] = interval
    return found


def _places(images: Rows) -> dict[Key, int]:
    columns = (images.column("label").tolist(), images.column("source").tolist(), map(bytes, images.ids))
    return {key: place for place, key in enumerate(zip(*columns, strict=True))}


def _nearness(
    config: StrataConfig, images: Rows, reals: NDArray[np.int64], wanted: NDArray[np.int64], ctx: FitContext
) -> NDArray[np.float64]:
    """(n,) of the images at positions `wanted`: less the distance to the nearest real one, itself left out."""
    vectors = _vectors(images, np.union1d(reals, wanted), Path(ctx.files["perceptual"]), ctx)
    found = np.empty(len(wanted))
    others = np.stack([vectors[place] for place in reals.tolist()])
    for number, place in enumerate(wanted.tolist()):
        squares = ((others - vectors[place]) ** 2).sum(axis=1)
        squares[reals == place] = np.inf
        found[number] = -np.sqrt(squares.min()) if np.isfinite(squares).any() else np.nan
    return found


def _judged(images: Rows, places: NDArray[np.int64], wanted: NDArray[np.bool_], ctx: FitContext) -> NDArray[np.float64]:
    """(n,) what the discriminator says of the images at those `places` that are wanted; NaN of the others."""
    score = discriminator_file.scorer(discriminator_file.place(ctx), ctx.device)
    found = np.full(len(places), np.nan)
    chosen = np.flatnonzero(wanted)
    for start in range(0, len(chosen), BLOCK_ROWS):
        block = chosen[start : start + BLOCK_ROWS]
        told = [score(pixels) for pixels in images.array("image", places[block])]
        found[block] = [one.array()[()] for one in told]  # all are on their way before the first is waited for
    return found


def _vectors(images: Rows, places: NDArray[np.int64], path: Path, ctx: FitContext) -> dict[int, NDArray[np.float64]]:
    """Position -> means over space of each channel of all stages, each stage to unit length."""
    import torch

    from detectors.transfers import Fetched, sent

    perceptual = import_module(PERCEPTUAL)
    network = perceptual.load(path, ctx.device)
    side = min(images.fields["image"].shape[:2])
    stages = [stage for stage in range(1, perceptual.STAGES + 1) if side >= 1 << (stage - 1)]
    found: dict[int, NDArray[np.float64]] = {}
    for start in range(0, len(places), BLOCK_ROWS):
        block = places[start : start + BLOCK_ROWS]
        told = []
        for pixels in images.array("image", block):
            with torch.inference_mode():  # one by one, so that no vector depends on its neighbors
                x = sent(pixels, ctx.device).movedim(2, 0)[None].float() / 255
                maps = network.stages(x, stages)
            told.append([Fetched(maps[stage].mean(dim=(2, 3))[0].double()) for stage in stages])
        for place, one in zip(block.tolist(), told, strict=True):
            parts = [part.array() for part in one]
            found[place] = np.concatenate([part / max(float(np.linalg.norm(part)), 1e-12) for part in parts])
        ctx.report(min(start + BLOCK_ROWS, len(places)), len(places))
    return found


def _write_sheet(path: Path, images: Rows, places: NDArray[np.int64], gap: int = 2) -> None:
    """places: (columns, rows) positions."""
    from PIL import Image

    columns, rows = places.shape
    height, width = images.fields["image"].shape[:2]
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for column in range(columns):
        for row, picture in enumerate(images.array("image", places[column])):
            top, left = row * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width] = picture
    Image.fromarray(sheet).save(path)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "source"
