"""The verb `bias`: whether a model's probabilities follow the generator, or what was done to the file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import PIPELINE_FILE, Device, File, Json, counting, give, note, say, verb
from pipeline.errors import ConfigError, StageError
from stages.commands.predict import As, place_of

if TYPE_CHECKING:
    from stages.predicting.files import File as ImageFile

CLASSES = ("real", "fake")
"""By label."""


@verb(
    "touchstone bias further_detectors[profile-forest] images",
    "touchstone bias further_detectors[profile-forest] real fake --json",
)
def bias(
    model: Annotated[
        str,
        typer.Argument(help="a 'train' node that has run, a model's folder, or MANIFEST.yaml#ENTRY"),
    ],
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...|NODE",
            help="REAL FAKE: two folders, zips or alike; or one with real and fake; or a node, whose test rows count",
        ),
    ],
    count: Annotated[int, typer.Option(min=2, help="images of each class at most")] = 100,
    as_class: As = None,
    device: Device = None,
    json: Json = False,
    file: File = PIPELINE_FILE,
) -> None:
    """Tell what changes that nobody sees (recompression, scaling, shift, blur, noise) do to a model's probabilities.

    By class: invariant, towards real, towards fake, fragile, or cannot tell. Exit code 1: some images have no score.
    """
    import numpy as np

    from stages.evaluation.score_shifts import lines, summary
    from stages.images.disturbances import BAND, DISTURBANCES
    from stages.predict import load

    asked = load(place_of(model, file), device=device, as_class=as_class)
    notes: list[str] = []
    images: list[tuple[int, Any]]
    if len(folders) == 1 and not folders[0].exists() and file.is_file():
        asked = asked.of_pictures()
        images, groups = _rows(file, str(folders[0]), count, asked.detector.card["trained_on"], notes)
    else:
        images, groups = _images(_classes(folders), count, notes)
    for line in (*asked.warnings, *notes):
        note(line)
    labels, scores, kept, far, failed = [], [], [], [], 0
    found = asked.scored((one for _, one in images), DISTURBANCES)
    for (label, _), one, group in zip(images, counting(found, "bias", len(images)), groups, strict=True):
        if one.error or len(one.scores) != 1 + len(DISTURBANCES):
            note(f"{one.name}: {one.error or 'a change of it has no score'}")
            failed += 1
            continue
        labels.append(label)
        scores.append(one.scores)
        kept.append(group)
        far.append(asked.is_far(one))
    try:
        about = summary(
            np.array(scores), list(DISTURBANCES), list(BAND), np.array(labels, np.uint8), np.array(kept),
            asked.threshold(), np.array(far, bool) if asked.facts is not None else None,
        )  # fmt: skip
    except ValueError as error:
        raise StageError(f"{', '.join(map(str, folders))}: {error}") from None
    give({"detector": asked.detector.card["detector"], **about, "unreadable": failed}) if json else say(*lines(about))
    raise typer.Exit(1 if failed else 0)


def _classes(folders: Sequence[Path]) -> tuple[Path, Path]:
    """Places of reals and fakes. Raises ConfigError where it is not clear which are which."""
    if len(folders) == 2:
        return folders[0], folders[1]
    if len(folders) == 1 and all((folders[0] / name).is_dir() for name in CLASSES):
        return folders[0] / "real", folders[0] / "fake"
    found = f"{folders[0]}, which has no folders real and fake" if len(folders) == 1 else f"{len(folders)} places"
    raise ConfigError(f"found {found}; expected one folder with real and fake in it, or two places: REAL FAKE")


def _rows(
    file: Path, node: str, count: int, learned: Sequence[str], notes: list[str]
) -> tuple[list[tuple[int, Any]], list[str]]:
    """(label, picture) of `count` test rows of each class of a node, as the stage `bias` chooses them; their groups.

    learned: sources of the fakes that the model learned from; where the node has such fakes, others are left out.
    """
    import numpy as np

    from pipeline.open import open_node
    from stages.bias import chosen

    rows: Any = open_node(file, node).split("test")
    if "image" not in rows.fields:
        raise ConfigError(f"{node} has no pictures, but {', '.join(rows.fields)}; name an 'equalize' node, or folders")
    own = np.isin(rows.column("source"), list(learned)) & (rows.column("label") == 1)
    if own.any():
        rows = rows.where(own | (rows.column("label") == 0))
        notes.append(f"{node}: fakes of {', '.join(learned)} alone, from which the model learned")
    rows = rows.take(chosen(rows, count))
    labels = rows.column("label").tolist()
    return list(zip(labels, rows.array("image"), strict=True)), [bytes(one).hex() for one in rows.column("group")]


def _images(places: tuple[Path, Path], count: int, notes: list[str]) -> tuple[list[tuple[int, ImageFile]], list[str]]:
    """(label, image) of `count` images of each class, chosen by the digest of the name, and the group of each."""
    from stages.predicting.files import files

    images, groups = [], []
    for label, place in enumerate(places):
        found = files([place], notes)
        known = _groups(place, found)
        if not any(known):
            notes.append(f"{place}: no manifest.csv names groups, so that the intervals take images for independent")
        names = [one.member or one.name.removeprefix(f"{place}/") for one in found]  # however the place was spelled
        chosen = sorted(range(len(found)), key=lambda number: _rank(names[number]))
        for number in sorted(chosen[:count]):
            one = found[number]
            images.append((label, one))
            groups.append(known[number] or f"{CLASSES[label]}/{one.name}")
    return images, groups


def _groups(place: Path, found: Sequence[ImageFile]) -> list[str]:
    """The group of each image, as a manifest, or a table inside or beside what holds the images, says; "" where none
    says anything.
    """
    from stages.auditing.reading import described, table_of

    if any(one.group for one in found):
        return [one.group for one in found]
    table = table_of(place)
    if table is None:
        return [""] * len(found)
    names = [one.member or one.name.removeprefix(f"{place}/") for one in found]
    return [(said or {}).get("group", "") for said in described(table, names)]


def _rank(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
