"""Text of a checkpoint reaches people on one line, without control characters and not without end."""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import (
    MEBIBYTE,
    Calls,
    State,
    meta,
    module_state,
    of_persistence,
    of_tensorflow,
    of_torch,
    stand_ins,
    tensorflow_state,
    torch_bytes,
    write,
)
from stress.fuzz_checkpoints import golden_files, made_files

from pipeline.errors import TouchstoneError
from stages.generators import generator_file, inspection, official, stylegan2_official
from stages.sentences import printable
from stages.weights.checkpoints import Contents, NetworkData, read_bytes
from stages.weights.weights_file import WeightsError

SHORT = "evil\n\x1b[31m\u202e\ud800"
LONG = SHORT + "x" * 5000
EVIL = pytest.mark.parametrize("evil", [SHORT, LONG], ids=["short", "long"])


def told(path: Path) -> Iterator[str]:
    """All lines that the command and a sampling stage say of a file."""
    out = path.with_suffix(".out")
    asks: list[Callable[[], Any]] = [
        lambda: inspection.inspect(path),
        lambda: inspection.inspect(path, "raw"),
        lambda: inspection.convert(path, "discriminator", "safetensors", out, True),
        lambda: generator_file.read_header(path),
    ]
    for ask in asks:
        try:
            about = ask()
            if isinstance(about, dict):
                yield from inspection.lines(about)
                yield from json.dumps(about, ensure_ascii=False, indent=1).split("\n")
        except (TouchstoneError, WeightsError) as error:
            yield str(error)


def assert_printable(path: Path) -> None:
    assert_lines(list(told(path)))


def assert_lines(lines: list[str]) -> None:
    for line in lines:
        assert line.isprintable()
        assert len(line) < 1200
        assert line.count("evil") < 50


def test_printable_text_is_kept_and_other_text_escaped_and_cut() -> None:
    assert printable("4x4/Conv/weight \u00e9\u4e16") == "4x4/Conv/weight \u00e9\u4e16"
    assert printable("a\nb\x1b[0m\u202e\u2028") == r"a\nb\x1b[0m\u202e\u2028"
    assert printable("x" * 101) == "x" * 100 + "..."
    assert len(printable("\n" * 10_000, 50)) == 103


# What the bytes of a file say


def symbol(evil: str) -> bytes:
    with stand_ins((evil.partition("\ud800")[0], "call")) as (call,):
        return of_persistence(lambda c: c.update(x=Calls(call)))


def part(evil: str) -> bytes:
    return of_persistence(
        lambda c: c["G_ema"]["state"]["_modules"].update({evil: meta("SynthesisBlock", module_state({}))})
    )


def parts(evil: str) -> bytes:
    one = State(tensorflow_state("a", "b", variables=[("x", np.zeros(2))]))
    return of_tensorflow(lambda s: s[2].update(components={evil: one}))


def twins(evil: str) -> bytes:
    def change(content: dict[str, Any]) -> None:
        state = content["G_ema"]["state"]
        state["_parameters"][evil] = state["_buffers"][evil] = torch.zeros(1)

    return of_persistence(change)


def member(evil: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(evil.partition("\u202e")[0] + evil[-100:].replace("\ud800", ""), b"")
    return made.getvalue()


def zoo(evil: str) -> bytes:
    tensors = {"formatLayer.weight": torch.zeros(2, 2), "toRGBLayers.0.weight": torch.zeros(3, 2, 1, 1)}
    return torch_bytes({"avgG": tensors, "config": argparse.Namespace(lossCriterion=evil), "args": {evil: evil}})


PLACES: dict[str, Callable[[str], bytes]] = {
    "name of a network": lambda evil: of_tensorflow(lambda s: s[2].update(name=evil)),
    "version": lambda evil: of_tensorflow(lambda s: s[2].update(version=evil)),
    "kind of variables": lambda evil: of_tensorflow(lambda s: s[2].update(variables=evil)),
    "function": lambda evil: of_tensorflow(lambda s: s[2].update(build_func_name=evil)),
    "all functions": lambda evil: of_tensorflow(lambda s: [one.update(build_func_name=evil) for one in s]),
    "setting": lambda evil: of_tensorflow(lambda s: s[2]["static_kwargs"].update({evil: 1})),
    "value of a setting": lambda evil: of_tensorflow(lambda s: s[2]["static_kwargs"].update(resolution=evil)),
    "setting too large": lambda evil: of_tensorflow(lambda s: s[2]["static_kwargs"].update({evil: 10**9})),
    "variable": lambda evil: of_tensorflow(lambda s: s[2]["variables"].append((evil, np.zeros(2)))),
    "variable of no numbers": lambda evil: of_tensorflow(lambda s: s[2]["variables"].append((evil, evil))),
    "variable of no values": lambda evil: of_tensorflow(lambda s: s[2]["variables"].append((evil, np.zeros(0)))),
    "variable twice": lambda evil: of_tensorflow(lambda s: s[2]["variables"].extend([(evil, np.zeros(2))] * 2)),
    "part": parts,
    "entry of modules": lambda evil: of_persistence(lambda c: c.update({evil: 1})),
    "network of modules": lambda evil: of_persistence(lambda c: c.update({evil: c["G_ema"]})),
    "class": lambda evil: of_persistence(lambda c: c["G_ema"].update(class_name=evil)),
    "part of modules": part,
    "tensor of modules": lambda evil: of_persistence(
        lambda c: c["G_ema"]["state"]["_buffers"].update({evil: torch.zeros(2)})
    ),
    "tensor of modules twice": twins,
    "entry that is no tensor": lambda evil: of_persistence(lambda c: c["G_ema"]["state"]["_buffers"].update({evil: 3})),
    "attribute": lambda evil: of_persistence(lambda c: c["G_ema"]["state"].update({evil: evil})),
    "symbol": symbol,
    "entry of an archive": lambda evil: of_torch(lambda c: c.update({evil: 1}), True),
    "unread entry of an archive": lambda evil: of_torch(lambda c: c.update({evil: {"a": {1: torch.zeros(1)}}}), True),
    "network of an archive": lambda evil: of_torch(lambda c: c.update({evil: c["generator"]}), False),
    "tensor of an archive": lambda evil: torch_bytes({evil: torch.zeros(2)}),
    "networks without end": lambda evil: torch_bytes({f"{k}{evil[:100]}": {"a": torch.zeros(1)} for k in range(200)}),
    "entries without end": lambda evil: made_translator(**{f"{k}{evil[:100]}": 1 for k in range(500)}),
    "settings of a port": zoo,
    "member": member,
}


def made_translator(**entries: Any) -> bytes:
    """The translator of the fuzzer with further entries."""
    content = torch.load(io.BytesIO(made_files()["made stargan2"]), weights_only=True)
    return torch_bytes({**content, **entries, "other": {"a": torch.zeros(1)}})


@EVIL
@pytest.mark.parametrize("place", PLACES)
def test_text_of_a_file_is_shown_on_one_printable_line(place: str, evil: str, tmp_path: Path) -> None:
    assert_printable(write(tmp_path / "file.pkl", PLACES[place](evil)))


@EVIL
@pytest.mark.parametrize(
    "change",
    [
        lambda header, evil: header.update({evil: header.pop("x")}),
        lambda header, evil: header["x"].update(dtype=evil),
        lambda header, evil: header["x"].update(shape=[evil]),
        lambda header, evil: header["__metadata__"].update(touchstone=json.dumps({"format": evil})),
        lambda header, evil: header["__metadata__"].update(touchstone=json.dumps({"format": 1, "family": evil})),
    ],
)
def test_text_of_a_file_of_ours_is_shown_on_one_printable_line(change: Any, evil: str, tmp_path: Path) -> None:
    header = {"__metadata__": {}, "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    change(header, evil)
    text = json.dumps(header).encode()
    assert_printable(write(tmp_path / "g.safetensors", len(text).to_bytes(8, "little") + text + bytes(4)))


# What every form of every family says, from what was read of a file


def changes(network: NetworkData, evil: str) -> Iterator[NetworkData]:
    yield replace(network, class_name=evil)
    for number, key in enumerate([*network.settings, evil]):
        yield replace(network, settings={**network.settings, key: [evil] * 9000 if number % 2 else evil})
    for key in [key for key in network.attributes if key.endswith(("class_name", "conv1.conv_clamp"))][:3]:
        yield replace(network, attributes={**network.attributes, key: evil})
    yield replace(network, tensors={**network.tensors, evil: np.zeros(2)})
    name = next(iter(network.tensors))
    yield replace(network, tensors={evil if key == name else key: each for key, each in network.tensors.items()})


SOURCES = ("Gs", "G_ema", "generator", "g_ema", "avgG", "generator_smooth", "")
EXTRA = ("config", "args", "latent_avg")


@pytest.mark.stress
@pytest.mark.parametrize("evil", [SHORT])
def test_text_is_shown_on_one_printable_line_whatever_the_form(
    evil: str, golden_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stylegan2_official, "AVERAGED_LATENTS", 100)
    path = write(tmp_path / "file", b"\x80\x02")
    files = [read_bytes(data) for data in {**golden_files(golden_folder, largest=MEBIBYTE), **made_files()}.values()]
    for contents in {official.recognize(path, each)[1:]: each for each in files}.values():  # one of each form
        source = next(name for name in (*SOURCES, *contents.networks) if name in contents.networks)
        judge = next((name for name in ("D", "discriminator", "d") if name in contents.networks), source)
        cases = [
            replace(contents, networks={**contents.networks, name: changed})
            for name in sorted({source, judge})
            for changed in changes(contents.networks[name], evil)
        ]
        cases += [replace(contents, networks={evil: network}) for network in contents.networks.values()]
        cases += [replace(contents, extra={key: value}) for key in EXTRA for value in (evil, {evil: evil})]
        cases += [replace(contents, extra={evil: evil}, ignored=(evil,))]
        for case in cases:
            monkeypatch.setattr(inspection, "read_contents", partial(same, case))
            try:
                about = inspection.inspect(path)
            except TouchstoneError as error:
                assert_lines([str(error)])
            else:
                assert_lines([*inspection.lines(about), *json.dumps(about, ensure_ascii=False, indent=1).split("\n")])


def same(contents: Contents, path: Path) -> Contents:
    return contents


@pytest.fixture
def golden_folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.getoption("--golden")) / "generators"
