"""Stage `segment`: what each pixel of a picture shows, as a number of a class, so that others can count by classes.

`bisenet` parses faces with the weights that the user has, `maps` takes maps that lie in files. `regions` (ellipses
around the landmarks of a face) and `grid` (three by three parts of any picture) need neither and are stand-ins, which
every picture that is made of them says. Another parser is a user's own stage that gives a field `parts` of uint8.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline.contents import NamedFiles
from pipeline.stage import (
    MAP,
    Batch,
    Context,
    Field,
    Input,
    Kind,
    Schema,
    Stage,
    StageConfig,
    file_setting,
    setting,
)
from stages.images.image_field import image_size
from stages.segmentation import classes
from stages.segmentation.places import GRID, REGIONS, grid, regions, resampled

GIVEN, BISENET = "stages.segmentation.given_maps", "stages.segmentation.bisenet"

OF_SEGMENTER = {"maps": "maps", "folder": "maps", "classes": "maps", "weights": "bisenet", "micro_batch": "bisenet"}
"""Setting -> the segmenter that alone makes use of it."""


class SegmentConfig(StageConfig):
    """Who tells the classes."""

    segmenter: Literal["grid", "regions", "maps", "bisenet"] = setting(
        description="grid: three by three parts; regions: ellipses around five landmarks, for rows paired with those "
        "of 'landmarks'; maps: files of maps; bisenet: a network that parses faces"
    )
    size: int | None = setting(
        None, ge=1, le=4096, description="side of `parts`, of which each pixel is looked up; none: the image's sides"
    )
    maps: str | None = file_setting(None, description="maps: a text with a line PICTURE,MAP for each")
    folder: str = setting(".", description="maps: where names in the text begin, relative to it")
    classes: list[str] | None = setting(
        None, description="maps: names of the values from 0 on; none: the 19 of CelebAMask-HQ"
    )
    weights: str | None = file_setting(None, description="bisenet: its weights, 79999_iter.pth")
    micro_batch: int = setting(4, ge=1, le=1024, description="bisenet: images per run of the network")

    @model_validator(mode="after")
    def _fitting(self) -> SegmentConfig:
        for name, owner in OF_SEGMENTER.items():
            if name in self.chosen() and self.segmenter != owner:
                raise ValueError(f"{name} has no effect with segmenter {self.segmenter}; drop it")
        for owner, name in (("maps", "maps"), ("bisenet", "weights")):
            if self.segmenter == owner and getattr(self, name) is None:
                raise ValueError(f"segmenter {owner} needs its file; name it as {name}")
        if self.classes is not None and (
            len(self.classes) > classes.MOST or len(set(self.classes)) < len(self.classes)
        ):
            raise ValueError(f"classes has {len(self.classes)} names; expected at most {classes.MOST} different ones")
        if self.classes is not None and any(", " in name for name in self.classes):
            raise ValueError("a name in classes has a comma; expected words")
        return self

    @property
    def told(self) -> tuple[str, tuple[str, ...]]:
        """Who tells the classes, in words, and their names."""
        if self.segmenter == "grid":
            return "three by three parts of the picture, a stand-in", GRID
        if self.segmenter == "regions":
            return "ellipses around five landmarks, a stand-in", REGIONS
        names = classes.FACES if self.classes is None else tuple(self.classes)
        return ("given maps" if self.segmenter == "maps" else "BiSeNet"), names


class Segment(Stage):
    """Rows with an `image` in; `parts` (H, W) uint8 out, the number of each pixel's class."""

    name: ClassVar[str] = "segment"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = SegmentConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="rows with an `image`; for regions paired: {of: images, pair: points}")
    }
    block_rows: ClassVar[int] = 64

    def modules(self, config: SegmentConfig, files: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """That of the segmenter, where it has one of its own."""
        return {"maps": (GIVEN,), "bisenet": (BISENET,)}.get(config.segmenter, ())

    def on_device(self, config: SegmentConfig, models: Mapping[str, Any] = MappingProxyType({})) -> bool:
        """Whether a network runs."""
        return config.segmenter == "bisenet"

    def libraries_of(self, config: SegmentConfig, models: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """numpy, and what reads maps or runs the network."""
        return ("numpy", *{"maps": ("pillow",), "bisenet": ("torch",)}.get(config.segmenter, ()))

    def least_rows(self, config: SegmentConfig) -> int:
        return config.micro_batch if config.segmenter == "bisenet" else 1

    def schema(self, config: SegmentConfig, inputs: Mapping[str, Any]) -> Schema:
        """Raises ValueError where there is no image, or for regions no five landmarks beside it."""
        height, width = image_size(inputs["of"], self.name)
        if config.segmenter == "regions":
            points = inputs.get("pair", {}).get("points")
            if points is None or points.shape != (5, 2):
                found = "none" if points is None else f"{points.shape}"
                raise ValueError(
                    f"segmenter regions needs five `points` beside each image, found {found}; write of: {{of: images, "
                    "pair: points}"
                )
        sides = (height, width) if config.size is None else (config.size, config.size)
        return {"parts": Field("uint8", sides, classes.told(*config.told), MAP)}

    def check(self, config: SegmentConfig, files: Mapping[str, Path]) -> None:
        """The files are what they should be."""
        if config.segmenter == "maps":
            import_module(GIVEN).lines(Path(files["maps"]))
        elif config.segmenter == "bisenet":
            import_module(BISENET).read_network(Path(files["weights"]))

    def named_files(self, config: SegmentConfig, files: Mapping[str, Path]) -> NamedFiles | None:
        """Maps count by content."""
        if config.segmenter != "maps":
            return None
        found: NamedFiles = import_module(GIVEN).named(Path(files["maps"]), config.folder)
        return found

    def compute(self, config: SegmentConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """A picture without a face, or without a map that can be read, fails."""
        images = batch.inputs[0]["image"]
        height, width = images.shape[1:3]
        sides = (height, width) if config.size is None else (config.size, config.size)
        found = np.zeros((len(batch), *sides), np.uint8)
        if config.segmenter == "bisenet":
            from stages.training.networks import in_micro_batches, prepare

            prepare(ctx.device, ctx.threads)
            module = import_module(BISENET)
            network = module.load(Path(ctx.files["weights"]), ctx.device)
            parsed = in_micro_batches(
                lambda rows: module.parsed(network, rows["image"], ctx.device), {"image": images}, config.micro_batch
            )
            found[:] = [resampled(one, *sides) for one in parsed]
            return {"parts": found}
        for row in range(len(batch)):
            try:
                found[row] = resampled(self._one(config, batch, row, ctx), *sides)
            except ValueError as error:
                ctx.fail(row, str(error))
        return {"parts": found}

    def _one(self, config: SegmentConfig, batch: Batch, row: int, ctx: Context) -> NDArray[np.uint8]:
        """Classes of one row, of any sides. Raises ValueError with the reason why there are none."""
        height, width = batch.inputs[0]["image"].shape[1:3]
        if config.segmenter == "grid":
            return grid(height, width)
        if config.segmenter == "regions":
            return regions(batch.inputs[1]["points"][row], height, width)
        module, path = import_module(GIVEN), Path(ctx.files["maps"])
        place = module.maps_by_id(path, config.folder).get(bytes(batch.ids[row]))
        if place is None:
            raise ValueError(f"{path.name} names no map of it; add one, or take these rows out")
        found: NDArray[np.uint8] = module.read_map(place, len(config.told[1]))
        return found
