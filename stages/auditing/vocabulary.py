"""The checks of an audit: their names, their kinds, and in which order they are told. Light: planning reads it.

Kinds: C says something of containers or of the set and is never the generator's doing; H says something of the history
of the pixels, which may be the generator's own trace; L is the look of the content. A difference of a C check is a
bias; one of H is a bias for certain only if real images of two origins show it too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One check. what: what it compares, in words that follow "differs in"."""

    name: str
    kind: str
    what: str


CHECKS = (
    Check("codec", "C", "the codec of the files, by content"),
    Check("encoder", "C", "how the codec was driven (Huffman tables, zlib header, order of segments)"),
    Check("quantization", "C", "the JPEG quantization tables"),
    Check("subsampling", "C", "the chroma subsampling of JPEG files"),
    Check("progressive", "C", "progressive JPEG files"),
    Check("mode", "C", "the stored color model"),
    Check("palette", "H", "pictures of at most 256 colors"),
    Check("alpha", "C", "an alpha channel, opaque or not"),
    Check("bit_depth", "C/H", "bits that are stored, and bits that are used"),
    Check("icc", "C", "color profiles"),
    Check("exif", "C", "EXIF blocks"),
    Check("orientation", "C", "the EXIF orientation"),
    Check("metadata_text", "C", "texts in the metadata"),
    Check("size", "C", "width and height as stored"),
    Check("aspect", "C", "width by height"),
    Check("file_size_per_pixel", "C/H", "coded bytes per pixel, among files of equal coding"),
    Check("unreadable", "C", "files that cannot be read"),
    Check("file_name", "C", "the form of file names, and suffixes"),
    Check("grid8", "H", "traces of JPEG blocks in pixels that are not JPEG now"),
    Check("double_compression", "H", "traces of an earlier JPEG under the present one"),
    Check("resampling", "H", "traces of interpolation"),
    Check("native_scale", "H", "where the spectrum ends: enlargement and reduction"),
    Check("high_frequency_energy", "H", "sharpness"),
    Check("noise_level", "H", "noise"),
    Check("brightness", "L", "brightness"),
    Check("contrast", "L", "contrast"),
    Check("color", "L", "color"),
    Check("gray_share", "C/L", "pictures of three equal channels"),
    Check("clipping", "L", "values at both ends of the range"),
    Check("borders", "C/H", "bars and frames"),
    Check("exact_duplicates", "C", "equal pixels across classes or splits"),
    Check("near_duplicates", "C", "look-alikes across classes or splits"),
    Check("group_leak", "C", "groups in two splits"),
    Check("source_mix", "C", "shares of domains"),
    Check("learned", "any", "what a classifier learns from cheap features"),
)

NAMES = tuple(check.name for check in CHECKS)
KIND = {check.name: check.kind for check in CHECKS}

HISTORY = tuple(check.name for check in CHECKS if check.kind == "H")
PIXELS = (
    *HISTORY,
    "bit_depth",
    "gray_share",
    "borders",
    *(check.name for check in CHECKS if check.kind in ("L", "any")),
)
"""Checks that a change of pixels may move."""

FREQUENCIES = ("resampling", "native_scale", "high_frequency_energy", "noise_level")
"""Checks that look at the same high frequencies: where one of them differs, what moved it has moved all of them."""

GROUPS = {"history": HISTORY, "pixels": PIXELS}
"""Word by which a stage names several checks at once in `Stage.moves`, so that its code names none of them."""

DIFFERS, EQUAL, CANNOT_TELL, NOT_APPLICABLE = "differs", "equal", "cannot tell", "does not apply"
FOUND, NONE = "found", "none"
