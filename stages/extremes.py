"""Stage `extremes`: images that a detector finds easiest and hardest, with maps of where it looks, and their mean.

Chai et al. 2020 (figure 3) average the maps of the 100 most confident images of each class; here of those that are
told right, as many as there are. Where fakes of several sources were made of one latent, their maps are compared too
(He et al. 2021, figures 7 and 8): whether a detector looks at the same places is a rank correlation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from pipeline.stage import FAKE, REAL, FitContext, Input, Kind, Promise, Rows, Schema, Stage, StageConfig, setting
from stages.evaluation.pairing import Key
from stages.training.feature_fields import check_feature, fields_read
from stages.training.networks import prepare

FORMAT = 1
RESULTS, MAPS = "extremes.json", "maps.npz"
KINDS = {REAL: "real", FAKE: "fake"}


class ExtremesConfig(StageConfig):
    """How many images."""

    split: Literal["test", "val"] = setting("test", description="rows that are looked at")
    count: int = setting(100, ge=1, description="images of each class, of the easiest only those that are told right")
    shown: int = setting(12, ge=1, le=100, description="images in a picture")
    latents: int = setting(
        4, ge=0, le=100, description="latents that fakes of several sources share, whose maps are shown; 0: none"
    )
    blur_reals: bool = setting(False, description="blur real images in pictures, by a Gaussian of 1/32 of the side")


class Extremes(Stage):
    """Artifact: extremes.json, maps.npz, {easiest,hardest}-{real,fake}.png, latents.png."""

    name: ClassVar[str] = "extremes"
    kind: ClassVar[Kind] = Kind.REDUCE
    makes: ClassVar[str] = "extremes"
    Config: ClassVar[type[StageConfig]] = ExtremesConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "model": Input("artifact", description="a 'train' node of a network on maps or pictures", takes="detector"),
        "on": Input("rows", description="rows with the detector's feature", like="model"),
        "images": Input("rows", description="the images that these were made of"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "pillow")
    network: ClassVar[bool] = True
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "source")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def libraries_of(
        self, config: ExtremesConfig, models: Mapping[str, Promise] = MappingProxyType({})
    ) -> tuple[str, ...]:
        """Those of the pictures, and the detector's."""
        return (*self.libraries, *(name for model in models.values() for name in model.facts["libraries"]))

    def reads(self, config: ExtremesConfig, models: Mapping[str, Promise]) -> Mapping[str, tuple[str, ...]]:
        """The feature of the detector, and images."""
        return {"on": fields_read(models["model"]), "images": ("image",)}

    def schema(self, config: ExtremesConfig, inputs: Mapping[str, Any]) -> Schema:
        """No rows come out; raises ValueError where rows are not what is read."""
        from stages.images.image_field import image_size

        check_feature(inputs["model"], "the rows of 'on'", inputs["on"])
        image_size(inputs["images"], self.name)
        return {}

    def check_rows(self, config: ExtremesConfig, counts: Mapping[str, Mapping[tuple[str, int], int]]) -> None:
        """There are rows."""
        if not any(counts["on"].get((config.split, label)) for label in KINDS):
            raise ValueError(f"'on' holds no rows of split '{config.split}'; add some, or choose another split")

    def fit(self, config: ExtremesConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write the artifact."""
        from stages.evaluation.detector_file import load_detector
        from stages.evaluation.detector_maps import DetectorMaps, combined

        prepare(ctx.device, ctx.threads)
        (model,) = ctx.artifacts["model"]
        detector = load_detector(model.path)
        maps = DetectorMaps.of(detector)
        rows: Any = views["on"]
        rows = rows.split(config.split)
        looking = Looking(config, rows, views["images"], maps, detector.config.feature, ctx)
        scores = detector(rows, ctx.device).astype(np.float64)
        results: dict[str, Any] = {
            "format": FORMAT,
            "model": {"node": model.node, "key": model.key, "detector": detector.card["detector"]},
            "split": config.split,
            "maps": maps.meaning,
            "classes": {},
        }
        arrays = {}
        for label, kind in KINDS.items():
            mine = np.flatnonzero(rows.column("label") == label)
            if not len(mine):
                continue
            right = (scores[mine] >= float(detector.card["threshold"])) == bool(label)
            sure = mine[_by_confidence(scores[mine], label, rows.ids[mine])]
            told = set(mine[right].tolist())
            easiest = np.array([place for place in sure.tolist() if place in told][: config.count], dtype=np.int64)
            hardest = sure[::-1][: config.count]
            results["classes"][kind] = {
                "rows": len(mine),
                "right": int(right.sum()),
                "easiest": looking.written(easiest, scores, f"easiest-{kind}.png"),
                "hardest": looking.written(hardest, scores, f"hardest-{kind}.png"),
            }
            if len(easiest):
                arrays[kind] = np.mean(looking.maps_of(easiest), axis=0)
        if len(arrays) == len(KINDS):
            arrays["combined"] = combined(arrays["real"], arrays["fake"])
        results["latents"] = looking.compared() if config.latents else []
        text = json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        (ctx.out / RESULTS).write_text(text, encoding="utf-8", errors="backslashreplace")
        np.savez(ctx.out / MAPS, allow_pickle=False, **arrays)  # type: ignore[arg-type]
        ctx.facts.update({kind: one["right"] for kind, one in results["classes"].items()})


def _by_confidence(scores: NDArray[np.float64], label: int, ids: NDArray[np.void]) -> NDArray[np.int64]:
    """Positions from the most confident in the true class to the least; equal ones by id."""
    words = np.ascontiguousarray(ids).view(">u8").reshape(-1, 2)
    return np.lexsort((words[:, 1], words[:, 0], -scores if label == FAKE else scores))


class Looking:
    """Rows, their images, and maps of them."""

    def __init__(self, config: ExtremesConfig, rows: Rows, images: Any, maps: Any, feature: str, ctx: FitContext):
        self.config, self.rows, self.images, self.maps, self.feature, self.ctx = (
            config,
            rows,
            images,
            maps,
            feature,
            ctx,
        )
        steps = np.array([len(part.steps) for part in images.parts])[images.part_numbers]
        order = np.argsort(-steps, kind="stable").tolist()  # the image with the fewest steps stays
        keys = _keys(images)
        self.places = {keys[place]: place for place in order}

    def maps_of(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, h, w) of rows."""
        blocks = [places[start : start + 64] for start in range(0, len(places), 64)]
        return np.concatenate([self.maps(self.rows.array(self.feature, block), self.ctx.device) for block in blocks])

    def written(self, places: NDArray[np.int64], scores: NDArray[np.float64], name: str) -> dict[str, Any]:
        """A picture of the first rows under their maps; the ids, sources and scores of all."""
        keys = _keys(self.rows)
        chosen = [keys[place] for place in places.tolist()]
        if len(places):
            first = places[: self.config.shown]
            _save(self.ctx.out / name, [self._under(keys[place], one) for place, one in
                                        zip(first.tolist(), self.maps_of(first), strict=True)], len(first))  # fmt: skip
        return {
            "count": len(places),
            "ids": [key[2].hex() for key in chosen],
            "sources": [key[1] for key in chosen],
            "scores": scores[places].tolist(),
        }

    def _under(self, key: Key, one: NDArray[np.float64]) -> NDArray[np.uint8]:
        """An image with its map over it. Raises StageError where there is no image."""
        from stages.evaluation.detector_maps import overlaid, stretched

        if key not in self.places:
            raise StageError(f"'images' lacks {key[2].hex()[:12]} of {key[1]}; name the node that 'on' was made of")
        picture = self.images.array("image", np.array([self.places[key]]))[0]
        if self.config.blur_reals and key[0] == REAL:
            from PIL import Image, ImageFilter

            blur = ImageFilter.GaussianBlur(picture.shape[0] / 32)
            picture = np.asarray(Image.fromarray(picture).filter(blur))
        return overlaid(picture, stretched(one).clip(0, 1))

    def compared(self) -> list[dict[str, Any]]:
        """Of each two sources of fakes that share latents: how alike the maps of the same latents are."""
        from stages.evaluation.bootstrap import interval_of

        found: dict[bytes, dict[str, int]] = {}
        for place, (label, source, row) in enumerate(_keys(self.rows)):
            if label == FAKE:
                found.setdefault(row, {}).setdefault(source, place)
        shared = {row: places for row, places in sorted(found.items()) if len(places) > 1}
        if not shared:
            return []
        self._draw(list(shared.values())[: self.config.latents])
        sources = sorted({source for places in shared.values() for source in places})
        lines = []
        for number, one in enumerate(sources):
            for other in sources[number + 1 :]:
                both = [places for places in shared.values() if one in places and other in places][: self.config.count]
                if not both:
                    continue
                first, second = (self.maps_of(np.array([places[name] for places in both])) for name in (one, other))
                values = np.array([_spearman(a, b) for a, b in zip(first, second, strict=True)])
                values = values[np.isfinite(values)]
                lines.append({
                    "sources": [one, other], "latents": len(both),
                    "spearman": float(values.mean()) if len(values) else None,
                    "interval": interval_of(partial(_mean_of, values), np.arange(len(values)), 0),
                })  # fmt: skip
        return lines

    def _draw(self, latents: list[dict[str, int]]) -> None:
        """A line for each latent, a column for each source."""
        keys, tiles = _keys(self.rows), []
        sources = sorted({source for places in latents for source in places})
        blank = np.full(self.images.fields["image"].shape, 255, np.uint8)
        for places in latents:
            for source in sources:
                place = places.get(source)
                one = None if place is None else self.maps_of(np.array([place]))[0]
                tiles.append(blank if one is None or place is None else self._under(keys[place], one))
        _save(self.ctx.out / "latents.png", tiles, len(sources))


def _keys(rows: Rows) -> list[Key]:
    columns = (rows.column("label").tolist(), rows.column("source").tolist(), map(bytes, rows.ids))
    return list(zip(*columns, strict=True))


def _mean_of(values: NDArray[np.float64], rows: NDArray[np.int64]) -> float:
    return float(values[rows].mean())


def _spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    from stages.evaluation.score_strata import spearman

    return spearman(one.ravel(), other.ravel())


def _save(path: Any, tiles: list[NDArray[np.uint8]], columns: int, gap: int = 2) -> None:
    """Images (H, W, 3) of one size as a PNG, `columns` to a line."""
    from PIL import Image

    height, width = tiles[0].shape[:2]
    lines = -(-len(tiles) // columns)
    sheet = np.full((lines * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    Image.fromarray(sheet).save(path)
