"""Which images `touchstone bias` draws of a place that has more than it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from auditing_pictures import encoded, folder, scene

from stages.commands.bias import _images


def test_the_same_images_are_drawn_however_the_place_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("real", "fake"):
        folder(tmp_path / name, [encoded(scene(number)) for number in range(24)])
    monkeypatch.chdir(tmp_path)
    drawn = [
        {(label, Path(one.name).name) for label, one in _images((place / "real", place / "fake"), 6, [])[0]}
        for place in (Path(), tmp_path)
    ]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 12
