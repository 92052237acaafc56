"""Stage `top_patches`: what the most convincing patch of each picture shows, against what any of its patches shows.

Of each picture the cell counts to which a patch network gives the highest probability of the true class (Chai et al.
2020, section 4.2 and figures 4, 6, 7). What it sees is named by the classes of pixels of `segment`. Beside each count
stands that of a random patch of the same pictures: here its exact expectation, and one draw as in the published code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.stage import FAKE, REAL, FitContext, Input, Kind, Promise, Rows, Schema, Stage, StageConfig, setting
from stages.training.feature_fields import check_feature, fields_read
from stages.training.networks import prepare

FORMAT = 1
RESULTS, PATCHES = "results.json", "patches.npz"
KINDS = {REAL: "real", FAKE: "fake"}
LARGEST = 64
"""Pixels of a patch's side in a picture; of larger ones every so many."""


class TopPatchesConfig(StageConfig):
    """Which rows count."""

    split: Literal["test", "val"] = setting("test", description="rows that are looked at")
    most: int = setting(
        10_000, ge=1, description="pictures of each class that count: those whose best patch convinces most"
    )
    rule: Literal["share", "majority"] = setting(
        "share",
        description="of the sheets of patches: a patch shows the class of which it holds the largest share, as "
        "published, or the one with most of its pixels; numbers are given by both",
    )
    sheet: int = setting(225, ge=0, le=10_000, description="patches in the sheet of a class at most; 0: no sheets")


class TopPatches(Stage):
    """Artifact: results.json, patches.npz (an entry per picture), sheet-LABEL-CLASS.png."""

    name: ClassVar[str] = "top_patches"
    kind: ClassVar[Kind] = Kind.REDUCE
    makes: ClassVar[str] = "top patches"
    Config: ClassVar[type[StageConfig]] = TopPatchesConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "model": Input("artifact", description="a 'train' node of a detector that decides by cells", takes="detector"),
        "on": Input("rows", description="rows with the detector's feature, of both classes", like="model"),
        "parts": Input("rows", description="'segment' of the same pictures"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")
    network: ClassVar[bool] = True
    random: ClassVar[bool] = True
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "source", "group")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def libraries_of(
        self, config: TopPatchesConfig, models: Mapping[str, Promise] = MappingProxyType({})
    ) -> tuple[str, ...]:
        """Those of the sheets, and the detector's."""
        return (*self.libraries, *(name for model in models.values() for name in model.facts["libraries"]))

    def reads(self, config: TopPatchesConfig, models: Mapping[str, Promise]) -> Mapping[str, tuple[str, ...]]:
        """The feature of the detector, and classes of pixels."""
        return {"on": fields_read(models["model"]), "parts": ("parts",)}

    def schema(self, config: TopPatchesConfig, inputs: Mapping[str, Any]) -> Schema:
        """No rows come out; raises ValueError where rows are not what is read."""
        check_feature(inputs["model"], "the rows of 'on'", inputs["on"])
        parts = inputs["parts"].get("parts")
        if parts is None or parts.dtype != "uint8" or len(parts.shape) != 2:
            found = ", ".join(sorted(inputs["parts"])) or "nothing"
            raise ValueError(f"top_patches needs `parts`, uint8 (H, W), in 'parts', found {found}; put segment there")
        return {}

    def check_rows(self, config: TopPatchesConfig, counts: Mapping[str, Mapping[tuple[str, int], int]]) -> None:
        """There are rows."""
        if not any(counts["on"].get((config.split, label)) for label in KINDS):
            raise ValueError(f"'on' holds no rows of split '{config.split}'; add some, or choose another split")

    def fit(self, config: TopPatchesConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write the artifact."""
        from stages.evaluation.best_patches import Looking, Named, best_patches
        from stages.evaluation.detector_file import load_detector

        prepare(ctx.device, ctx.threads)
        (model,) = ctx.artifacts["model"]
        detector = load_detector(model.path)
        on: Any = views["on"]
        parts: Any = views["parts"]
        looking = Looking.at(detector, on)
        on = on.split(config.split)
        rows, maps = _both(on, parts)
        named = Named.of(parts.fields["parts"].units)
        found = best_patches(looking, rows, maps, named, ctx)
        kept = {name: found.best(label, config.most) for label, name in KINDS.items()}
        results = {
            "format": FORMAT,
            "model": {"node": model.node, "key": model.key, "detector": detector.card["detector"]},
            "split": config.split,
            "rule": config.rule,
            "segmentation": named.about,
            "classes": list(named.names),
            "geometry": looking.geometry(),
            "without_parts": len(on) - len(rows),
            "found": {name: one.summary(named.names, ctx.seed) for name, one in kept.items() if len(one)},
        }
        text = json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        (ctx.out / RESULTS).write_text(text, encoding="utf-8", errors="backslashreplace")
        np.savez(ctx.out / PATCHES, allow_pickle=False, **found.values)  # type: ignore[arg-type]
        if looking.shows_pictures and config.sheet:
            for name, one in kept.items():
                _write_sheets(ctx.out, name, looking, rows, one, named.names, config)
        ctx.facts.update({name: len(one) for name, one in kept.items()})
        ctx.facts["without_parts"] = len(on) - len(rows)


def _both(rows: Rows, parts: Rows) -> tuple[Rows, Rows]:
    """Rows that have parts, and these in the same order; samples of two generators may have one id.

    Raises StageError where a row of parts stands twice, or where there is none.
    """
    places: dict[tuple[str, int, bytes], int] = {}
    for place, key in enumerate(_keys(parts)):
        if places.setdefault(key, place) != place:
            raise StageError(
                f"'parts' holds {key[2].hex()[:12]} of {key[0]} twice; name one node of 'segment', of the plain images"
            )
    where = np.array([places.get(key, -1) for key in _keys(rows)], dtype=np.int64)
    having = np.flatnonzero(where >= 0)
    if not len(having):
        raise StageError("no row of 'on' has its parts in 'parts'; let segment see the same pictures")
    return rows.take(having), parts.take(where[having])


def _keys(rows: Rows) -> list[tuple[str, int, bytes]]:
    columns = (rows.column("source").tolist(), rows.column("label").tolist(), map(bytes, rows.ids))
    return list(zip(*columns, strict=True))


def _write_sheets(
    out: Path, name: str, looking: Any, rows: Rows, kept: Any, names: tuple[str, ...], config: TopPatchesConfig
) -> None:
    """A square of the best patches that show each class, as the network sees them, black beyond the border."""
    from PIL import Image

    fields, feature = looking.fields, looking.detector.config.feature
    steps = [slice(None, None, -(-field.size // LARGEST)) for field in fields]
    for number, part in enumerate(names):
        mine = np.flatnonzero(kept.values[config.rule] == number)[: config.sheet]
        if not len(mine):
            continue
        pictures = rows.array(feature, kept.values["place"][mine])
        tiles = []
        for picture, cell in zip(pictures, kept.values["cell"][mine].tolist(), strict=True):
            starts = [place * field.stride + field.first for place, field in zip(cell, fields, strict=True)]
            ends = [(start, start + field.size) for start, field in zip(starts, fields, strict=True)]
            tiles.append(looking.frame.window(picture, *ends, outside=0)[steps[0], steps[1]])
        word = re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") or "class"
        Image.fromarray(_sheet(np.stack(tiles))).save(out / f"sheet-{name}-{number:02d}-{word}.png")


def _sheet(tiles: NDArray[np.uint8], gap: int = 1) -> NDArray[np.uint8]:
    """(n, h, w, 3) as one picture, about as many lines as columns, white between them."""
    count, height, width, _ = tiles.shape
    columns = int(np.ceil(np.sqrt(count)))
    sheet = np.full((-(-count // columns) * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet
