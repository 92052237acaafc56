"""Stage `landmarks`: where a face is in a picture: five points, or 68, from a file or by MTCNN.

A file is an .npz archive with `id` or `name` and `points` (n, 5, 2) or (n, 68, 2), or a text such as CelebA's
`list_landmarks_celeba.txt`: a file's name and its x and y in turn on each line, parted by spaces or commas. MTCNN
needs its three files of weights, which are read as data. A picture without a face keeps its row, with points that are
no numbers.
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

from pipeline.contents import NamedFiles, kept_while_same
from pipeline.stage import (
    CONTENT,
    Batch,
    Context,
    Field,
    Input,
    Kind,
    RowError,
    Schema,
    Stage,
    StageConfig,
    file_setting,
    setting,
)
from stages.features import array_of, headers, ids_of_files, names_of, places_of
from stages.images.image_field import NATIVE, filled

CASCADE, MTCNN = "stages.faces.cascade", "stages.faces.mtcnn"
NETWORKS = ("pnet", "rnet", "onet")
COUNTS = (5, 68)
OF_ARCHIVE = ".npz"
"""Field of rows whose pictures are as they came, on a canvas."""


class LandmarksConfig(StageConfig):
    """A file of points, or a detector."""

    file: str | None = file_setting(None, description="an .npz archive or a text of points")
    folder: str = setting(".", description="where names in the file begin, relative to it")
    pnet: str | None = file_setting(None, description="weights of MTCNN's first network, pnet.pt")
    rnet: str | None = file_setting(None, description="weights of its second one, rnet.pt")
    onet: str | None = file_setting(None, description="weights of its third one, onet.pt")
    choose: Literal["largest", "first"] = setting(
        "largest", description="of several faces: the one of the largest box, or of the highest score"
    )
    max_pixels: int = setting(2**26, description="of a picture that is decoded here", ge=1)

    @model_validator(mode="after")
    def _one_way(self) -> LandmarksConfig:
        given = [name for name in NETWORKS if getattr(self, name) is not None]
        if (self.file is None) == (not given):
            raise ValueError("expected either `file`, or the weights `pnet`, `rnet` and `onet`")
        if given and len(given) < len(NETWORKS):
            missing = ", ".join(name for name in NETWORKS if name not in given)
            raise ValueError(f"MTCNN needs three files of weights; add {missing}")
        without_effect = ("folder",) if given else ("choose", "max_pixels")
        idle = [name for name in without_effect if name in self.chosen()]
        if idle:
            raise ValueError(f"{' and '.join(idle)} has no effect here; remove it")
        return self


class Landmarks(Stage):
    """Pictures in; per row `points` (5 or 68, 2), `box` (4,) and `score`, NaN where there is no face."""

    name: ClassVar[str] = "landmarks"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = LandmarksConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows", description="image files, or rows with an `image`")}

    def modules(self, config: LandmarksConfig, files: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """Those of the detector, if it is one."""
        return () if config.file is not None else (CASCADE, MTCNN, "stages.images.decoding")

    def on_device(self, config: LandmarksConfig, models: Mapping[str, Any] = MappingProxyType({})) -> bool:
        """Whether networks run."""
        return config.file is None

    def libraries_of(
        self, config: LandmarksConfig, models: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[str, ...]:
        """Of a file numpy alone."""
        return ("numpy",) if config.file is not None else ("numpy", "pillow", "torch")

    def schema(self, config: LandmarksConfig, inputs: Mapping[str, Any]) -> Schema:
        """Raises ValueError where the file has no points, or the input no pictures."""
        count = 5
        if config.file is not None:
            count = _count(Path(inputs["file"]))
            by_name = self.named_files(config, {"file": Path(inputs["file"])}) is not None
            if by_name and "image" in inputs["of"] and NATIVE not in inputs["of"]:
                raise ValueError(
                    "points of named files are places in those files, and the pictures of 'of' were made of them; give "
                    "the rows of ingest or frames, or points by id"
                )
        elif "image" not in inputs["of"] and CONTENT not in inputs["of"]:
            raise ValueError("landmarks needs image files or an `image` field")
        return {
            "points": Field("float32", (count, 2), "pixels: x, y"),
            "box": Field("float32", (4,), "pixels: left, top, right, bottom"),
            "score": Field("float32", (), "probability of a face; 1 from a file"),
        }

    def check(self, config: LandmarksConfig, files: Mapping[str, Path]) -> None:
        """The files are what they should be."""
        if config.file is not None:
            _count(Path(files["file"]))
            return
        for name in NETWORKS:
            import_module(MTCNN).read_network(name, Path(files[name]))

    def named_files(self, config: LandmarksConfig, files: Mapping[str, Path]) -> NamedFiles | None:
        """The pictures that a file names: which points are whose depends on what they hold."""
        if config.file is None:
            return None
        path = Path(files["file"])
        if path.suffix != OF_ARCHIVE:
            return NamedFiles(path.parent / config.folder, _of_text(path)[0])
        whose, texts = names_of(path)
        return NamedFiles(path.parent / config.folder, texts) if whose == "name" else None

    def compute(self, config: LandmarksConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """A picture that cannot be decoded fails; of a file also one that it does not name."""
        if config.file is not None:
            return _from_file(Path(ctx.files["file"]), config.folder, batch, ctx)
        from stages.training.networks import prepare

        prepare(ctx.device, ctx.threads)
        cascade = import_module(CASCADE)
        networks = {name: _network(Path(ctx.files[name]), name, ctx.device) for name in NETWORKS}
        values = _empty(len(batch), 5)
        for row in range(len(batch)):
            try:
                faces = cascade.detect(pixels_of(batch, row, config.max_pixels), networks, ctx.device)
            except (RowError, ValueError) as error:
                ctx.fail(row, str(error))
                continue
            if len(faces.scores):
                sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
                worth = sides.prod(axis=1) if config.choose == "largest" else faces.scores
                one = int(np.argmax(worth))
                values["points"][row], values["box"][row] = faces.points[one], faces.boxes[one]
                values["score"][row] = faces.scores[one]
        return values


def pixels_of(batch: Batch, row: int, max_pixels: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a row: its `image` without the empty part of a canvas, or its file, decoded."""
    fields = batch.inputs[0] if batch.inputs else {}
    if "image" in fields:
        pixels: NDArray[np.uint8] = fields["image"][row]
        return filled(pixels, fields[NATIVE][row]) if NATIVE in fields else pixels
    from stages.images.decoding import decode

    return decode(batch.read(row), max_pixels)


def _empty(rows: int, count: int) -> dict[str, NDArray[Any]]:
    return {
        "points": np.full((rows, count, 2), np.nan, np.float32),
        "box": np.full((rows, 4), np.nan, np.float32),
        "score": np.zeros(rows, np.float32),
    }


@kept_while_same(8)
def _network(path: Path, name: str, device: str) -> Any:
    return import_module(MTCNN).read_network(name, path).to(device)


def _count(path: Path) -> int:
    """How many points a file has for each face. Raises ValueError with one sentence."""
    if path.suffix != OF_ARCHIVE:
        return int(_of_text(path)[1].shape[1])
    found = headers(path)
    whose = [name for name in ("id", "name") if name in found]
    if len(whose) != 1 or "points" not in found:
        raise ValueError(f"{path} has the arrays {', '.join(found)}; expected points, and one of id and name")
    shape = found["points"][0]
    if len(shape) != 3 or shape[1] not in COUNTS or shape[2] != 2:
        raise ValueError(f"'points' of {path} is {shape}, expected (n, 5, 2) or (n, 68, 2)")
    return int(shape[1])


@kept_while_same(8)
def _of_text(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Names and points of a text; lines of headings have no file name. Raises ValueError with file and line."""
    names, rows = list[str](), list[list[float]]()
    try:
        for line, text in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
            words = [word.strip() for word in text.split(",")] if "," in text else text.split()
            if len(words) < 3 or "." not in words[0]:
                continue
            if len(words) - 1 not in [2 * count for count in COUNTS] or (rows and len(words) != len(rows[0]) + 1):
                raise ValueError(
                    f"{path}:{line} has {len(words) - 1} numbers, expected 10 or 136, as many on each line"
                )
            names.append(words[0])
            rows.append([float(word) for word in words[1:]])
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text") from error
    if not rows:
        raise ValueError(f"{path}: has no line of a file's name and the x and y of its points")
    return names, np.array(rows, np.float32).reshape(len(rows), -1, 2)


@kept_while_same(8)
def _places_of_text(path: Path, folder: str) -> dict[bytes, int]:
    ids = ids_of_files(path.parent / folder, _of_text(path)[0])
    return {one: number for number, one in enumerate(ids)}


def _from_file(path: Path, folder: str, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
    of_archive = path.suffix == OF_ARCHIVE
    points = array_of(path, "points") if of_archive else _of_text(path)[1]
    places = places_of(path, folder) if of_archive else _places_of_text(path, folder)
    values = _empty(len(batch), points.shape[1])
    values["score"][:] = 1
    for row, one in enumerate(batch.ids.tolist()):
        place = places.get(bytes(one))
        if place is None:
            ctx.fail(row, f"{path.name} has no points for it; add them, or take these rows out")
            continue
        values["points"][row] = points[place]
        values["box"][row] = *points[place].min(axis=0), *points[place].max(axis=0)
    return values
