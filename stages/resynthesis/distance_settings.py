"""What stages that measure how far images look apart share: their settings `perceptual` and `heads`, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from pipeline.stage import file_setting

PERCEPTUAL, LPIPS = "stages.resynthesis.perceptual", "stages.resynthesis.lpips"
EMBEDDED = "manifests/networks.yaml#perceptual-small"


def heads_setting() -> Any:
    """The setting `heads`."""
    found: FieldInfo = file_setting(
        None,
        description="weights of LPIPS v0.1 (alex.pth, vgg.pth or squeeze.pth of the package lpips), which then is the "
        "distance; `perceptual` is their network, torchvision's AlexNet, VGG-16 or SqueezeNet 1.1",
    )
    return found


def with_network(data: Any, wanted: bool) -> Any:
    """Settings as given, with the small network where one is needed and none is named."""
    if not isinstance(data, dict) or not wanted or data.get("heads"):
        return data
    return data | {"perceptual": data.get("perceptual") or EMBEDDED}


def check(perceptual: str | None, heads: str | None, wanted: bool, otherwise: str) -> None:
    """Raise ValueError where a file has no effect, or heads lack their network; otherwise: the setting without one."""
    for name, value in (("perceptual", perceptual), ("heads", heads)):
        if value is not None and not wanted:
            raise ValueError(f"{name} has no effect with {otherwise}; drop it")
    if heads is not None and perceptual is None:
        raise ValueError("heads are given without their network; name its file as perceptual")


def modules(files: Mapping[str, Any]) -> tuple[str, ...]:
    """Modules that values of the distance depend on, by the files of both settings."""
    if "perceptual" not in files:
        return ()
    if "heads" in files:
        return (LPIPS,)
    return (PERCEPTUAL, *import_module(PERCEPTUAL).modules(files["perceptual"]))


def told(files: Mapping[str, Any]) -> str:
    """The distance in words."""
    if "perceptual" not in files:
        return "squared"
    names = [Path(files[name]).name for name in ("perceptual", "heads") if name in files]
    return ", ".join(["LPIPS" if "heads" in files else "relative", *names])


def paths(files: Mapping[str, Any]) -> tuple[Path | None, Path | None]:
    """Network and heads."""
    network, heads = (Path(files[name]) if name in files else None for name in ("perceptual", "heads"))
    return network, heads
