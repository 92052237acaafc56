"""What a stage is, seen from the engine; and what the engine hands to a stage.

A stage is a frozen config, a schema that needs no heavy import, and one function of a batch of rows (`compute`), or of
whole views (`fit`). Stages never learn about shards, workers or order; the engine never learns about images.
Importing this module must stay cheap (numpy and pydantic only): every `plan` does it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as SettingInfo

from pipeline.contents import NamedFiles
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.lineage import Lineage

ID = np.dtype("V16")
"""Row ids, chains and recipes: the first 16 bytes of a SHA-256 digest."""

REAL, FAKE = 0, 1
"""Labels. Scores: higher means more fake."""

POOLED = "all"
"""What tables call all sources of fakes together; no node of rows has this name."""

SPLITS = ("train", "val", "test")


class Kind(StrEnum):
    """What becomes of the rows of a stage."""

    SOURCE = "source"  # ids from a manifest or from seeds
    MAP = "map"  # one row in, one row out, same id
    EXPAND = "expand"  # one row (or pair) in, k rows out
    FIT = "fit"  # a view in, an artifact out; never sees a test row
    REDUCE = "reduce"  # datasets and artifacts in, an artifact out


CHANNEL, ROW, COLUMN = "channel", "row", "column"
MAP, MAPS, PICTURE = (ROW, COLUMN), (CHANNEL, ROW, COLUMN), (ROW, COLUMN, CHANNEL)
SPECTRA = (CHANNEL, f"{ROW} frequency", f"{COLUMN} frequency")
"""Names of axes: of a map, of several maps, of a picture as Pillow has it, and of maps of frequencies, not places."""


@dataclass(frozen=True)
class Field:
    """One array of a dataset: dtype and shape of one row, the units of its values, and what its axes are.

    axes  one name per axis of a row; CHANNEL, ROW and COLUMN (or their frequencies) are what pictures and networks look
          for. Without them a field of one axis is a curve, and nobody takes one of more axes for a map or a picture.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    units: str = ""
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.axes and (len(self.axes) != len(self.shape) or len(set(self.axes)) != len(self.axes)):
            raise ValueError(f"axes are {self.axes} for rows of shape {self.shape}; expected one name for each axis")

    @property
    def row_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * int(np.prod(self.shape, dtype=np.int64))


Schema = Mapping[str, Field]


class ViewSchema(dict[str, Field]):
    """The fields that all rows of a view have alike. differing: other field -> a clause that says how it differs."""

    def __init__(self, alike: Schema, differing: Mapping[str, str]) -> None:
        super().__init__(alike)
        self.differing = differing


def difference(schema: Schema, name: str) -> str:
    """How a field differs between the rows of a view, e.g. "'x' is (43,) in a and (20,) in b"; "" if it does not."""
    return schema.differing.get(name, "") if isinstance(schema, ViewSchema) else ""


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of one branch.

    steps    plain data of each stage from the source to here (`pipeline.steps`)
    lineage  how one row came to be since its origin, for stages that keep it (`Stage.keeps_lineage`)
    above    likewise: the rows that these were made of, nearest first, up to their origin, each as long as `ids`
    of       of rows whose fields lie apart: field -> the same rows where they have it
    """

    stage: str
    chain: bytes
    schema: Schema
    ids: NDArray[np.void]
    steps: tuple[dict[str, Any], ...] = field(default=())
    lineage: Lineage | None = None
    above: tuple[Part, ...] = ()
    of: Mapping[str, Part] = field(default_factory=dict)


class Rows(Protocol):
    """Rows of a view as a fit or reduce sees them: `pipeline.dataset.Dataset`, which says more of each member."""

    @property
    def ids(self) -> NDArray[np.void]: ...  # (n,) V16

    def __len__(self) -> int: ...

    @property
    def fields(self) -> dict[str, Field]: ...

    @property
    def parts(self) -> list[Part]: ...

    @property
    def part_numbers(self) -> NDArray[np.int64]: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    def column(self, name: str) -> NDArray[Any]: ...

    def split(self, name: str) -> Rows: ...

    def where(self, mask: NDArray[np.bool_]) -> Rows: ...

    def having(self, *fields: str) -> Rows | None: ...

    def take(self, index: NDArray[np.integer[Any]]) -> Rows: ...

    def having_been(self, field: str) -> Sequence[tuple[NDArray[np.int64], Rows]]: ...

    def array(self, field: str, rows: NDArray[np.integer[Any]] | None = None) -> NDArray[Any]: ...

    def digests(self, rows: NDArray[np.integer[Any]] | None = None) -> NDArray[np.void]: ...

    def blocks(self, field: str, size: int) -> Iterator[NDArray[Any]]: ...


ORIGIN = "origin"
"""Column for fits and reduces that name it in `uses_columns`: the id of the file or sample that a row was made of."""
CONTENT = "content"
"""Name of the virtual field of rows whose bytes lie in a file of the user's: read with `Batch.read`."""


class StageConfig(Settings):
    """Base of all stage configs."""


def row_setting(default: Any = ..., *, description: str, **more: Any) -> Any:
    """A setting that only chooses rows (paths, counts, splits): it never enters a recipe."""
    return SettingInfo(default, description=description, json_schema_extra={"recipe": False}, **more)


def setting(default: Any = ..., *, description: str, **more: Any) -> Any:
    """A setting that changes the computed values: it is part of the recipe."""
    return SettingInfo(default, description=description, **more)


def file_setting(default: Any = ..., *, description: str, **more: Any) -> Any:
    """A file (relative to pipeline.yaml) that enters the recipe by content; `Context.files` has its place."""
    return SettingInfo(default, description=description, json_schema_extra={"recipe": "content"}, **more)


@dataclass(frozen=True)
class Input:
    """A named input of a stage.

    kind      "rows": a view (a node name, a list, or a mapping with `of`, `where`, `take`, `pair`);
              "views": a mapping of names to views; "artifact": one fit or reduce node; "artifacts": several.
    """

    kind: str = "rows"
    required: bool = True
    description: str = ""
    takes: str | tuple[str, ...] = ""  # what the artifact is that fits here (`Stage.makes`), or any of several; "": any
    like: str = ""  # an artifact: of rows that a view holds in several ways, those made as the rows of that one


@dataclass(frozen=True)
class SourceRows:
    """What a source stage finds: one entry per location, before duplicates of content are merged.

    `payload` columns travel with the rows into `compute` (seeds, places of files) but never into a shard.
    `split` entries are "", "train", "val" or "test"; "" means: assigned by hash of the group.
    """

    id: NDArray[np.void]  # (n,) V16
    label: int | NDArray[np.uint8]  # of all rows, or (n,)
    group: Sequence[str] | NDArray[np.void] | None  # None: the id itself
    split: Sequence[str] | None = None
    domain: Sequence[str] | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)  # columns of length n, indexable by integer arrays
    splits: Mapping[str, float] | None = None  # fractions for rows without a given split
    notes: tuple[str, ...] = ()  # one sentence each, shown by `plan` and `run`
    problems: Mapping[int, str] = field(default_factory=dict)  # row number -> reason why it cannot be read
    line: Callable[[int], str] | None = None  # row number -> file and line that name the row, for messages
    licence: str = ""  # of the data, as they state it; "": they state none
    told: Mapping[str, Sequence[str]] = field(default_factory=dict)  # "file" (its path there), "licence", "author",
    # "url", "provenance" -> what the source says of each row, for those who look at rows or take them away; "": nothing
    verified: str = ""  # how many rows agree with digests that their publisher states; "": nobody compared


@dataclass(frozen=True)
class Parents:
    """Rows that an expand makes rows from: columns of the row table, one entry per row of the view."""

    id: NDArray[np.void]  # (n,) V16
    label: NDArray[np.uint8]
    split: NDArray[np.str_]
    domain: NDArray[np.str_]  # "": none
    group: NDArray[np.void]  # V16
    index: NDArray[np.int64]  # draw number in the last expand that a row went through, 0 in none: a frame's number

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True)
class Children:
    """Rows that an expand makes, one entry per row. Their ids are digests of the parents' ids and `index`.

    No (parent, partner, index) stands twice. Split and group are the parent's; so are label and domain where they are
    None. Rows with a label of their own are born here: they count as rows of this node (column `source`).
    """

    parent: NDArray[np.int64]  # (n,) positions in the first view
    index: NDArray[np.int64]  # (n,) draw number, 0 or more: `Batch.index`
    partner: NDArray[np.int64] | None = None  # (n,) positions in the second view, each of the parent's split
    label: int | None = None
    domain: Sequence[str] | None = None  # (n,)


@dataclass(frozen=True)
class Batch:
    """Some rows on their way through `compute`.

    inputs[k]  arrays of the k-th parents' rows, in the order of `ids`, read when asked for (one parent for a map; two
               where a view pairs rows, or an expand chooses partners)
    payload    columns of the source stage that gave birth to the rows (source stages only)
    """

    ids: NDArray[np.void]  # (n,) V16, ids of the rows to compute
    parents: tuple[NDArray[np.void], ...] = ()  # each (n,) V16
    inputs: tuple[Mapping[str, NDArray[Any]], ...] = ()
    index: NDArray[np.int64] | None = None  # (n,) draw number of an expand
    payload: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    reader: Callable[[int], bytes] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, row: int) -> bytes:
        """Bytes of the file behind row number `row`; raises RowError if it is missing or its digest is not the id."""
        if self.reader is None:
            raise TypeError("these rows have no file behind them")
        return self.reader(row)


class RowError(Exception):
    """One row cannot be computed; the text is the reason that the user reads."""


@dataclass
class Context:
    """What a stage may know about the run."""

    seed: int
    stage: str
    device: str = "cpu"
    threads: int = 1
    files: Mapping[str, Path] = field(default_factory=dict)  # file settings by name
    artifacts: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)  # by input name, in the order given
    random: bool = True
    failures: dict[int, str] = field(default_factory=dict)

    def fail(self, row: int, reason: str) -> None:
        """Record that row number `row` of the batch failed; its values are ignored."""
        self.failures[row] = reason

    def rng(self, row_id: Any, draw: str) -> np.random.Generator:
        """Generator of one row and one named draw; independent of recipe, position, worker and call order."""
        if not self.random:
            raise TypeError(f"stage '{self.stage}' draws at random but does not say so; set random = True")
        return np.random.Generator(np.random.Philox(key=draw_key(self.seed, self.stage, bytes(row_id), draw)))


def draw_key(seed: int, stream: str, row_id: bytes, draw: str) -> int:
    """128-bit Philox key of (seed, stage stream, id, draw name)."""
    parts = (b"touchstone/draw", str(seed).encode(), stream.encode(), row_id, draw.encode())
    text = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return int.from_bytes(hashlib.sha256(text).digest()[:16], "little")


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its directory (read only), its key and what it recorded about itself."""

    node: str
    key: str
    path: Path
    info: Mapping[str, Any] = field(default_factory=dict)  # artifact.json: consumed rows, files, `facts` of the stage


@dataclass(frozen=True)
class Promise:
    """What is known of a fit's artifact before it exists: plain data that its stage promises for its config."""

    node: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"node '{self.node}'"


@dataclass
class FitContext(Context):
    """Context of `fit` and `reduce`: where files go, and how a long fit survives a kill."""

    out: Path = Path()  # an empty directory; all files written here become the artifact
    scratch: Path = Path()  # kept between attempts of the same artifact key; written atomically by the stage
    facts: dict[str, Any] = field(default_factory=dict)  # plain data for artifact.json, shown by `show` and the report
    report: Callable[[int, int], None] = lambda done, total: None  # progress: (done, total) steps
    stopping: Callable[[], bool] = lambda: False  # true after Ctrl-C: save to scratch and raise Interrupted
    earlier: Callable[[], Iterator[Artifact]] = lambda: iter(())  # sound artifacts of the same recipe that were made of
    # other rows, newest first: what they say of rows that are still the same (`Rows.digests`) need not be made again


class Stage:
    """One kind of work. Subclasses are stateless; the engine makes one instance per process."""

    name: ClassVar[str]
    kind: ClassVar[Kind]
    Config: ClassVar[type[StageConfig]]
    inputs: ClassVar[Mapping[str, Input]] = {}
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)  # distributions whose version can change the values
    random: ClassVar[bool] = False  # uses `Context.rng` or `Context.seed`: the seed enters the recipe
    network: ClassVar[bool] = False  # runs on the device; device, threads and deterministic flags enter the recipe
    places: ClassVar[tuple[str, ...]] = ()  # settings of a source stage that name files or folders
    content: ClassVar[bool] = False  # source stages of files: stages that read its rows may call `Batch.read`
    block_rows: ClassVar[int] = 256  # rows per call of `compute` at most
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split")  # row table columns that a fit or reduce depends on
    splits: ClassVar[tuple[str, ...]] = ("train", "val")  # splits that a fit may read
    splits_through: ClassVar[tuple[str, ...]] = ()  # splits that artifacts which a fit uses may have seen; (): `splits`
    origin: ClassVar[bool] = False  # gives rows values of their own: what came before is no processing of them
    makes: ClassVar[str] = ""  # what the artifact of a fit or reduce is, for inputs that take no other
    page: ClassVar[str] = ""  # the HTML page among its files, for `touchstone report`
    makes_variant: ClassVar[bool] = False  # changes rows on purpose (+E, +P, a mirror image): no step of a plain image
    moves: ClassVar[tuple[str, ...]] = ()  # checks of an audit, or groups of them, that a declaration of it covers
    keeps_lineage: ClassVar[bool] = False  # of a fit: each part of its rows has its `lineage`
    shares_rows: ClassVar[bool] = False  # of a fit or reduce: it has `fit_together`

    named_in: str = ""  # set by the engine: the module that the pipeline file names for the stage

    def reads(self, config: Any, models: Mapping[str, Promise]) -> Mapping[str, tuple[str, ...]]:
        """Of a fit or reduce: input -> fields that it reads of its rows.

        Where several nodes of a view hold the same rows, it gets those with these fields; models: see `on_device`.
        """
        return {}

    def schema(self, config: Any, inputs: Mapping[str, Any]) -> Schema:
        """Fields of a computed row (none for fits and reduces); must not import torch or zarr.

        inputs: input -> schema of its rows (the fields that all its branches have alike; `difference` tells of the
        others), file setting -> Path, input of one artifact -> Promise; of several artifacts input.0 -> Promise and so
        on, in their order. Raises ValueError with one sentence if the inputs lack what the stage needs.
        """
        return {}

    def modules(self, config: Any, files: Mapping[str, Path] = MappingProxyType({})) -> tuple[str, ...]:
        """Implementation modules that config and files select (part of the code closure), e.g. ("detectors.svm",)."""
        return ()

    def environment(self, config: Any) -> Mapping[str, str]:
        """Further facts of the machine that change values, e.g. the version of libjpeg."""
        return {}

    def with_entries(self, config: Any, entries: Mapping[str, Mapping[str, Any]]) -> Any:
        """The config with what a manifest says of its files, beside their places.

        entries: file setting that names an entry of a manifest -> that entry. Raises ValueError with one sentence.
        """
        return config

    def check(self, config: Any, files: Mapping[str, Path]) -> None:
        """Cheap validation before anything runs (headers of files); raises ValueError with one sentence."""

    def named_files(self, config: Any, files: Mapping[str, Path]) -> NamedFiles | None:
        """Further files that values depend on because a file of the settings names them: they enter by content too.

        `files` as in `check`; the stage reads them whole, or their `pipeline.contents.known_sha256`.
        """
        return None

    def remarks(self, config: Any, files: Mapping[str, Path]) -> Sequence[str]:
        """What a user should know of its files before the run and what stops nothing: sentences."""
        return ()

    def leaves(self, config: Any, files: Mapping[str, Any]) -> Mapping[str, str]:
        """What its values alone have, whatever they are of: topic of a difference between classes -> in words."""
        return {}

    def check_rows(self, config: Any, counts: Mapping[str, Mapping[tuple[str, int], int]]) -> None:
        """Of a fit or reduce: validation of its rows before anything runs; raises ValueError with one sentence.

        counts: input (or input.name, where views have names) -> (split, label) -> number of rows.
        """

    def check_branches(self, config: Any, inputs: Sequence[Schema]) -> None:
        """Of a map: validation of what its branches read, all together; raises ValueError with one sentence.

        inputs: schema of the first input of each branch, with the field CONTENT where its rows are files
        """

    def on_device(self, config: Any, models: Mapping[str, Promise] = MappingProxyType({})) -> bool:
        """Whether this config runs a network: then device and threads are part of the recipe.

        models: what the artifacts of inputs promise, under the names that they have in `schema`; empty where that is
        not known yet: then, whether it may.
        """
        return self.network

    def libraries_of(self, config: Any, models: Mapping[str, Promise] = MappingProxyType({})) -> tuple[str, ...]:
        """Distributions whose version can change the values of this config; `models` as in `on_device`."""
        return self.libraries

    def least_rows(self, config: Any) -> int:
        """Rows that `compute` handles at once, e.g. a micro-batch: a call has a multiple of them where possible."""
        return 1

    def promise(self, config: Any, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of a fit: facts of its artifact that others need for planning; `inputs` as in `schema`.

        A file setting of another stage may name the fit's node, if that stage declares an input of the setting's name;
        it then gets a `Promise` wherever it would get the file's path. Of a pinned node the promise is what `facts` of
        its artifact say, where they say all of it.
        """
        return {}

    def fan_out(self, config: Any) -> int:
        """Rows per parent of an expand stage."""
        return 1

    def children(
        self, config: Any, files: Mapping[str, Path], parents: Parents, partners: Parents | None, seed: int
    ) -> Children:
        """Rows of an expand stage: `fan_out` per parent, or whatever it makes of parents and partners.

        partners: rows of its second input, which is one more view; None if it is not given. A row's children must
        depend on few other rows, so that few change when rows are added. Raises ValueError with one sentence.
        """
        count = self.fan_out(config)
        return Children(np.repeat(np.arange(len(parents)), count), np.tile(np.arange(count), len(parents)))

    def discover(self, config: Any, scan: Any) -> SourceRows:
        """Rows of a source stage.

        scan: `pipeline.inputs.scan.Scan`, which walks folders and hashes files through the stat cache.
        """
        raise NotImplementedError

    def read(self, config: Any, location: str) -> bytes:
        """Bytes behind a location that `discover` put into `payload["location"]` (source stages of files)."""
        return Path(location).read_bytes()

    def compute(self, config: Any, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """Values of the batch's rows: one array per schema field, first axis = rows."""
        raise NotImplementedError

    def fit(self, config: Any, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write the artifact's files to `ctx.out` (fit and reduce stages)."""
        raise NotImplementedError

    def fit_together(
        self, configs: Sequence[Any], views: Mapping[str, Rows | Mapping[str, Rows]], contexts: Sequence[FitContext]
    ) -> None:
        """What `fit` would write for each config and context, with each row read once (`shares_rows`).

        The engine gives it nodes that are ready at one moment, with equal settings, rows and `reads`. If it raises,
        whatever the reason, each of them is given to `fit` by itself.
        """
        raise NotImplementedError
