"""Stage `pair_crop`: one crop for the same frame of a video and of its fake, by the landmarks of either.

Chai et al. 2020 (the released program) go through both videos of a pair of FaceForensics++ frame by frame, let a coin
decide whose landmarks count, and cut the same square out of both pictures, so that no crop tells the classes apart.
Here the coin of a frame is keyed by the seed and the frame of the original, and depends on no other one. A frame that
only one of both has, as behind the end of a shorter video, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.digests import hash_rank
from pipeline.stage import FAKE, REAL, Children, Input, Kind, Parents, Schema
from stages.face_crop import FaceCrop, FaceCropConfig


class PairCrop(FaceCrop):
    """Frames of originals and fakes, and landmarks of both, in; what `face_crop` gives out, both cut in one way."""

    name: ClassVar[str] = "pair_crop"
    kind: ClassVar[Kind] = Kind.EXPAND
    random: ClassVar[bool] = True
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="frames of originals and of one fake of each; a pair is a group"),
        "points": Input("rows", description="landmarks of these frames: a 'landmarks' node of them"),
    }

    def schema(self, config: FaceCropConfig, inputs: Mapping[str, Schema]) -> Schema:
        """Raises ValueError where the inputs are no pictures and landmarks."""
        if "points" not in inputs["points"]:
            raise ValueError("pair_crop needs landmarks in 'points'; put the stage landmarks there")
        return super().schema(config, {"of": inputs["of"], "pair": inputs["points"]})

    def children(
        self, config: FaceCropConfig, files: Mapping[str, Path], parents: Parents, partners: Parents | None, seed: int
    ) -> Children:
        """Both frames of a pair with the landmarks of one of them.

        Raises ValueError where a pair has several fakes of a frame, or there is no pair at all.
        """
        del config, files
        assert partners is not None
        real, fake = paired(parents)
        coin = hash_rank(parents.id[real], "landmarks of a pair", seed) >> np.uint64(63)
        chosen = np.where(coin == REAL, real, fake)
        order = ids.order(partners.id)
        place = ids.lookup(partners.id[order], parents.id[chosen])
        known = place >= 0
        if not known.any():
            raise ValueError(
                "pair_crop finds no frame that an original and its fake have both, with landmarks; 'of' needs both "
                "videos of each pair in one group, and 'points' landmarks of these frames"
            )
        partner = order[place[known]]
        return Children(
            np.concatenate([real[known], fake[known]]),
            np.zeros(2 * len(partner), np.int64),
            np.concatenate([partner, partner]),
        )


def paired(frames: Parents) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the original and of the fake of each frame that both have: of one group and number.

    Raises ValueError where a group has two rows of one class and number.
    """
    words = ids.words(frames.group)
    order = np.lexsort((frames.label, frames.index, words[:, 1], words[:, 0]))
    key = np.stack([words[order, 0], words[order, 1], frames.index[order].astype(np.uint64)])
    same = (key[:, 1:] == key[:, :-1]).all(axis=0)
    label = frames.label[order]
    double = np.flatnonzero(same & (label[1:] == label[:-1]))
    if len(double):
        row = order[double[0]]
        kind = "original" if frames.label[row] == REAL else "fake"
        raise ValueError(
            f"pair_crop: a pair has several {kind}s of frame {frames.index[row]}; choose one kind of fake with where, "
            "e.g. domain in [youtube, Deepfakes], and begin with the stage frames"
        )
    first = np.flatnonzero(same & (label[:-1] == REAL) & (label[1:] == FAKE))
    return order[first], order[first + 1]
