"""What to do about a difference: the setting of `equalize`, or the view, that takes it away, and what nothing does.

Each sentence goes from the better side to the worse: what is taken away is taken from the class that has more of it. A
history of pixels cannot be undone, so where no setting makes the classes alike the sentence says so.
"""

from __future__ import annotations

from stages.auditing.vocabulary import CANNOT_TELL, DIFFERS

PIXELS_ONLY = "equalize both classes by one node (stage equalize, one `size`): it keeps pixels and nothing of the file"
TRACES = (
    "an earlier JPEG stays in the pixels: `equalize` with `protocol: window` takes reals of some qualities only and "
    "codes fakes that never were JPEG once by the same; `protocol: jpeg96` recompresses both classes and hides finer "
    "tables only"
)
NO_WAY = "no setting of `equalize` makes it alike"
EXPLAIN = "explain it (content, or the generator), or declare it in the report"
SCALE = (
    "`equalize` both classes from one native scale, by the same reduction (`crop: native` for none at all, one "
    "`resample` for both)"
)

FIXES = {
    "codec": f"{PIXELS_ONLY}; {TRACES}",
    "encoder": PIXELS_ONLY,
    "quantization": f"{PIXELS_ONLY}; {TRACES}",
    "subsampling": f"{PIXELS_ONLY}; chroma that was halved stays so: `prefer: recompress` codes both classes 4:2:0",
    "progressive": PIXELS_ONLY,
    "mode": f"{PIXELS_ONLY}, as RGB; `color: gray` where one class is gray",
    "palette": f"{NO_WAY}: 256 colors stay 256 colors, and a reduction only mixes them; leave such rows out",
    "alpha": f"{PIXELS_ONLY}; transparent pictures fail",
    "bit_depth": f"16 bits become 8 in `equalize`; for unused levels {NO_WAY}: treat both classes by the same tone "
    "steps before, or leave such rows out",
    "icc": PIXELS_ONLY,
    "exif": PIXELS_ONLY,
    "orientation": f"{PIXELS_ONLY}, upright (`exif_rotate`)",
    "metadata_text": PIXELS_ONLY,
    "size": f"{PIXELS_ONLY}, of one size; {SCALE}",
    "aspect": "`equalize` with one `crop` for both classes",
    "file_size_per_pixel": f"{PIXELS_ONLY}; what is left is content, or another encoder",
    "unreadable": "repair or remove the files that are named",
    "file_name": f"{PIXELS_ONLY}; rename files of both classes alike before you publish them",
    "grid8": f"{TRACES}; nothing takes an earlier JPEG away",
    "double_compression": f"{NO_WAY}: an earlier JPEG stays; leave such rows out, or take reals that were coded once",
    "resampling": f"{NO_WAY}: interpolation stays, also another filter; {SCALE}",
    "native_scale": f"{SCALE}; an enlargement cannot be undone",
    "high_frequency_energy": f"{NO_WAY}: blur and sharpening stay, as does another filter; {SCALE}; else {EXPLAIN}",
    "noise_level": f"{NO_WAY}: noise and its removal stay; {EXPLAIN}",
    "brightness": f"choose like contents for both classes, or {EXPLAIN}",
    "contrast": f"choose like contents for both classes, or {EXPLAIN}",
    "color": f"choose like contents for both classes (`color: gray` takes color away), or {EXPLAIN}",
    "gray_share": "`equalize` with `color: gray` for both classes, or leave gray pictures out",
    "clipping": f"treat both classes by the same tone steps; {NO_WAY}",
    "borders": "cut bars off by a `crop` box in `equalize`, or leave such rows out",
    "exact_duplicates": "remove the copies from the class or split that got them later",
    "near_duplicates": "remove the look-alikes, or put them in one `group` of the manifest and in one class",
    "group_leak": "leave the column `split` of the manifest empty: rows are then split by group",
    "source_mix": "match the shares of domains by views (`where: domain = ...`, `take`)",
    "learned": f"look at the rows with the highest scores; {EXPLAIN}",
}


def fix(name: str, verdict: str, enough: int) -> str:
    """Words for the user; enough: rows per class from which an effect as it was seen is told from chance."""
    if verdict == DIFFERS:
        return FIXES[name]
    if verdict == CANNOT_TELL and enough:
        return f"about {enough:,} rows per class tell an effect of this size from chance"
    return ""
