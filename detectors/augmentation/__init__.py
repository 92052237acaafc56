"""Augmentations by name: random changes of training rows. Part of no recipe: one more changes nothing that was trained.

An augmentation is a module here with its settings (a `detectors.parts.Augmentation`) and one
line in `AUGMENTATIONS`. The class says `acts_on`, kinds of rows (`detectors.preprocessing.KINDS`:
image, residual, spectrum); planning refuses it on others. Its one function is

    apply(settings, rows, draw) -> rows

rows  tensor (n, *shape) as stored (uint8, float16, ...), on the device of the training, or on the processor where the
      class says `beside`; axes as those of the field, rows of images end with (row, column, channel). What comes back
      has the same dtype and may have other sides (a crop, whose class says which), the same for all rows
draw  draw(name, count=1) -> (n, count) float64 from 0 to below 1: numbers that belong to (seed, row id, epoch, the
      augmentation's word and `name`). Nothing else may be random

Augmentations run in the order of the list, before preprocessing (`detectors.augmenting`); validation and scoring have
none. The module may
import torch inside functions only, since planning reads its settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from detectors.augmentation import blur, crop, flip, jpeg, noise, resized_crop
from detectors.parts import Augmentation, OneOf

IN_RECIPES = False

AUGMENTATIONS: Mapping[str, type[Augmentation]] = {
    "flip": flip.Flip,
    "crop": crop.Crop,
    "resized_crop": resized_crop.ResizedCrop,
    "noise": noise.Noise,
    "blur": blur.Blur,
    "jpeg": jpeg.Jpeg,
}

AnyAugmentation = Annotated[Augmentation, OneOf("augmentation", AUGMENTATIONS)]
