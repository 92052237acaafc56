"""Names of classes of pixels, how a field of them says its names, and which of them are one class in a histogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

FACES = (
    "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r", "nose", "mouth",
    "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
)  # fmt: skip
"""Of CelebAMask-HQ, by value."""

MERGED: Mapping[str, str] = {
    **dict.fromkeys(("l_brow", "r_brow"), "brows"),
    **dict.fromkeys(("l_eye", "r_eye", "eye_g"), "eye"),
    **dict.fromkeys(("l_ear", "r_ear", "ear_r"), "ear"),
    **dict.fromkeys(("mouth", "u_lip", "l_lip"), "mouth"),
    **dict.fromkeys(("neck", "neck_l"), "neck"),
    "cloth": "clothes",
}
"""Class -> what it counts as (Chai et al. 2020, figure 4): glasses are eyes, earrings ears, a necklace is neck."""

MOST = 255
"""Classes at most; the value behind them stands for no pixel at all."""

_MARK = "classes of "


def told(about: str, names: Sequence[str]) -> str:
    """Units of a field of classes: what made them, and their names by value."""
    return f"{_MARK}{about}: {', '.join(names)}"


def read(units: str) -> tuple[str, tuple[str, ...]]:
    """What made the classes, and their names; ("", ()) where units do not say it."""
    about, colon, names = units.removeprefix(_MARK).partition(": ")
    if not units.startswith(_MARK) or not colon:
        return "", ()
    return about, tuple(names.split(", "))
