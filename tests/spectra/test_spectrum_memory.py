"""Memory of the frequency features at 1024 pixels, measured in a process of its own: stages cut their batches."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SIDE, MIB = 1024, 2**20

PROGRAM = f"""
import json, resource
import numpy as np
import scipy.fft, scipy.sparse, torch  # noqa: what the kernels import, so that it counts as there from the start
from pipeline.stage import ID, Batch, Context
from stages.spectrum import Spectrum, SpectrumConfig
from stages.spectra.spectrum_means import EPSILON, SpectrumSums

config = SpectrumConfig.model_validate({{"features": ["profile", "projections", "dct2d", "fft2d"]}})

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def features(rows):
    images = np.zeros((rows, {SIDE}, {SIDE}, 3), np.uint8)
    images[:, ::3, ::5] = 200
    ids = np.zeros(rows, ID)
    found = Spectrum().compute(config, Batch(ids, (ids,), ({{"image": images}},)), Context(0, "spectrum"))
    assert all(np.isfinite(values).all() for values in found.values())
    return images.nbytes + sum(values.nbytes for values in found.values())

def means(rows):
    images = np.zeros((rows, {SIDE}, {SIDE}, 3), np.uint8)
    images[:, ::3, ::5] = 200
    for picture in EPSILON:
        sums = SpectrumSums(picture, {SIDE}, {SIDE})
        sums.add(images)
        assert all(np.isfinite(values).all() for values in sums.means(rows).values())
    return images.nbytes

start = peak()
means(1)
one = peak()
images = means(4)
four = peak()
kept = features(4)
print(json.dumps([start, one, four, peak(), images, kept]))
"""


@pytest.mark.stress
def test_batches_at_1024_pixels_stay_far_below_two_gigabytes_and_are_cut() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    start, one, four, last, images, kept = json.loads(done.stdout)
    assert last < 2 * 1024 * MIB
    assert one - start < 160 * MIB, "sums, means and what one image needs on the way"
    assert four - one < images + 20 * MIB, "four images need no more than one, beside themselves"
    assert last - start < kept + 150 * MIB, "beside images and features"
