"""The errors a user can meet: one base class, one sentence each (place, found, expected, way out)."""

from __future__ import annotations


class TouchstoneError(Exception):
    """Base of all errors that are shown without a traceback; `exit_code` is the process status."""

    exit_code = 1


class ConfigError(TouchstoneError):
    """`pipeline.yaml`, a manifest or a command line option says something that cannot be."""

    exit_code = 2


class SourceError(TouchstoneError):
    """Input data contradict their manifest or each other (a leak, a wrong digest)."""


class StageError(TouchstoneError):
    """A stage failed for a reason that is not one row's."""


class ClusterError(TouchstoneError):
    """Dask's scheduler or its workers are gone, differ from this process, or cannot be started."""


class FailedRowsError(TouchstoneError):
    """More rows failed than `max_failed_rows` allows."""


class DamagedShardError(TouchstoneError):
    """A shard is not what was published; `shard` is its directory."""

    def __init__(self, message: str, shard: str) -> None:
        super().__init__(message)
        self.shard = shard

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (str(self), self.shard)


class ConflictError(TouchstoneError):
    """The same rows were computed twice with different bytes."""


class StoreError(TouchstoneError):
    """The store cannot be read or written (full disk, no permission, foreign files)."""


class DamagedArtifactError(StoreError):
    """An artifact is not what was published."""


class DamagedRecipeError(StoreError):
    """A recipe file is not what was written; the next run writes it again."""


class OldFormatError(StoreError):
    """What an earlier format of the engine wrote: no damage, and never served."""


class Interrupted(TouchstoneError):
    """The user asked to stop; what was in flight is published."""

    exit_code = 130
