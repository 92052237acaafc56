"""Optional libraries: one sentence where one is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pipeline.errors import ConfigError


def needed(module: str, extra: str, what: str) -> Any:
    """The module; raises ConfigError with what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{what} need the library {module!r}, which is not installed; install touchstone[{extra}]"
        ) from error
