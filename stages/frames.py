"""Stage `frames`: pictures of videos, by their number.

A video is one row of `ingest`, and each of its frames a row of its own with the video's group and split, so that no
video stands in two splits. Frames are counted from 0 in the order in which they are shown, as OpenCV counts them
(ffmpeg's own numbers begin at 1); all before a wanted one are decoded too, and none is ever left out. Videos of
several sizes lie at the upper left of one canvas, with their own size beside them; `equalize` and `face_crop` take the
picture alone. Frames are put upright as the video's track says, as OpenCV does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import (
    CONTENT,
    PICTURE,
    Batch,
    Children,
    Context,
    Field,
    Input,
    Kind,
    Parents,
    RowError,
    Schema,
    Stage,
    StageConfig,
    row_setting,
    setting,
)
from stages.images.containers import inspect
from stages.images.image_field import CANVAS, NATIVE

MISSING = "frames need the library 'av', which is not installed; install touchstone[video]"


class FramesConfig(StageConfig):
    """Which frames, and how large the canvas is that they lie on."""

    width: int = setting(description="pixels of the canvas; a wider video fails", ge=1, le=16384)
    height: int = setting(description="pixels of the canvas; a higher video fails", ge=1, le=16384)
    limit: int = row_setting(description="frames per video; of a shorter one those that it lacks fail", ge=1, le=10**6)
    first: int = row_setting(0, description="number of the first frame, from 0", ge=0)
    stride: int = row_setting(1, description="every which frame", ge=1)


class Frames(Stage):
    """Video files in; per frame `image` (height, width, 3) uint8 RGB, `native_size` and `time_s` out."""

    name: ClassVar[str] = "frames"
    kind: ClassVar[Kind] = Kind.EXPAND
    Config: ClassVar[type[StageConfig]] = FramesConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows", description="video files")}
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "av")
    block_rows: ClassVar[int] = 32

    def schema(self, config: FramesConfig, inputs: Mapping[str, Schema]) -> Schema:
        """Raises ValueError where the input has no files."""
        if CONTENT not in inputs["of"]:
            raise ValueError("frames needs video files, as `ingest` finds them")
        return {
            "image": Field("uint8", (config.height, config.width, 3), "RGB, 0 to 255", PICTURE),
            NATIVE: CANVAS,
            "time_s": Field("float64", (), "seconds since the video's begin"),
        }

    def check(self, config: FramesConfig, files: Mapping[str, Path]) -> None:
        """Raises ValueError where the library is missing."""
        if find_spec("av") is None:
            raise ValueError(MISSING)

    def environment(self, config: FramesConfig) -> Mapping[str, str]:
        """The decoder."""
        if find_spec("av") is None:
            return {}
        import av

        return {name: ".".join(map(str, version)) for name, version in sorted(av.library_versions.items())}

    def fan_out(self, config: FramesConfig) -> int:
        """Frames per video."""
        return config.limit

    def children(
        self, config: FramesConfig, files: Mapping[str, Path], parents: Parents, partners: Parents | None, seed: int
    ) -> Children:
        """A row's number is that of its frame, whatever the other ones are."""
        numbers = config.first + config.stride * np.arange(config.limit)
        return Children(np.repeat(np.arange(len(parents)), config.limit), np.tile(numbers, len(parents)))

    def compute(self, config: FramesConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """A video is decoded once for all of its rows in the batch; a row without its frame fails."""
        assert batch.index is not None
        values: dict[str, NDArray[Any]] = {
            "image": np.zeros((len(batch), config.height, config.width, 3), np.uint8),
            NATIVE: np.zeros((len(batch), 2), np.int32),
            "time_s": np.zeros(len(batch), np.float64),
        }
        videos: dict[bytes, list[int]] = {}
        for row, parent in enumerate(batch.parents[0]):
            videos.setdefault(bytes(parent), []).append(row)
        for rows in videos.values():
            wanted = {int(batch.index[row]): row for row in rows}
            try:
                for number, pixels, time_s in decoded(batch.read(rows[0]), sorted(wanted), ctx.threads):
                    height, width, _ = pixels.shape
                    if height > config.height or width > config.width:
                        raise ValueError(
                            f"is {width} x {height} pixels, expected at most {config.width} x {config.height}; raise "
                            "width and height"
                        )
                    row = wanted.pop(number)
                    values["image"][row, :height, :width] = pixels
                    values[NATIVE][row] = width, height
                    values["time_s"][row] = time_s
            except (RowError, ValueError) as error:
                for row in wanted.values():
                    ctx.fail(row, str(error))
        return values


def decoded(content: bytes, wanted: Sequence[int], threads: int = 1) -> Iterator[tuple[int, NDArray[np.uint8], float]]:
    """(number, (H, W, 3) uint8 RGB, upright, seconds) of the wanted frames, ascending.

    Raises ValueError for a file that is damaged or cut off, and after the last frame for those that there are not.
    """
    import av

    if inspect(content).codec != "mp4":
        raise ValueError("is no video, expected an MP4 file")
    number, waiting = -1, list(wanted)
    try:
        with av.open(BytesIO(content), "r") as container:
            if not container.streams.video:
                raise ValueError("the file has no video track, expected one")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = threads
            for number, frame in enumerate(container.decode(stream)):
                if number == waiting[0]:
                    del waiting[0]
                    pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                    upright = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
                    yield number, upright, float(frame.time or 0.0)
                if not waiting:
                    return
    except av.error.FFmpegError as error:
        raise ValueError(f"the video cannot be decoded behind frame {number}: {error.strerror}") from error
    raise ValueError(
        f"the video has {number + 1} frames, so that there is no frame {waiting[0]}; lower limit or stride"
    )
