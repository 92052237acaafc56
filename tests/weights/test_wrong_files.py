"""Files that are no checkpoint of a known generator: one sentence says what each is, and what to do."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import (
    State,
    dumps,
    meta,
    module_state,
    persistence_bytes,
    persistence_content,
    progan_bytes,
    progan_states,
    state_dict,
    tensorflow_bytes,
    torch_bytes,
    write,
)
from stress.fuzz_checkpoints import made_files

from stages.generators import official
from stages.generators.weights import WeightsError
from stages.weights.checkpoints import read_contents


def theano() -> bytes:
    state = State(version=0)
    state.clear()
    state.update(name="Gs", build_func_spec={"func": "network.G_paper"}, param_values=[], toplevel_params={})
    return tensorflow_bytes((state, state, state), 2, "network")


def alias_free() -> bytes:
    content: dict[str, Any] = persistence_content()
    synthesis = meta("SynthesisNetwork", module_state({}, {"input": meta("SynthesisInput", module_state({}))}))
    content["G_ema"]["state"]["_modules"]["synthesis"] = synthesis
    return persistence_bytes(content)


def safetensors_of_others() -> bytes:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


def archive_of(name: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        target.writestr(name, b"\x89PNG")
    return made.getvalue()


def arrays_of_numpy() -> bytes:
    made = io.BytesIO()
    np.savez(made, weight=np.zeros(3))
    return made.getvalue()


def program() -> bytes:
    made = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, files of it are not gone
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), made)
    return made.getvalue()


def other_class() -> bytes:
    content: dict[str, Any] = persistence_content()
    content["G_ema"]["class_name"] = "SuperresGenerator"
    return persistence_bytes(content)


PAGE = "\n <!DOCTYPE html><html>Quota exceeded \u2014 later</html>"
MESSAGE = '{"error": {"code": 403, "message": "Forbidden \u2014 later"}}'
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "cp1252")


OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is empty; download it again"),
    "page": (lambda: b"<!DOCTYPE html><html>Quota exceeded", "a web page in place of the file; download it again"),
    "page behind blanks": (lambda: b"\xef\xbb\xbf\n <HTML>", "is an HTML or XML page"),
    **{
        f"page in {encoding}": (partial(PAGE.encode, encoding), "a web page in place of the file; download it again")
        for encoding in ENCODINGS
    },
    **{
        f"message in {encoding}": (
            partial(MESSAGE.encode, encoding),
            "is a JSON text, perhaps an error message in place of the file; download it again",
        )
        for encoding in ENCODINGS
    },
    "pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "is a git-lfs pointer, .* `git lfs pull`",
    ),
    "gzip": (lambda: gzip.compress(progan_bytes()), "is packed with gzip; unpack it first with gunzip"),
    "safetensors": (safetensors_of_others, "is a safetensors file, not an official checkpoint"),
    "text": (
        lambda: b"Quota exceeded",
        "is no checkpoint: it begins with b'Quota ex'; expected .*; .*download it again",
    ),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n", "is no checkpoint: it begins with .*; take .* docs/checkpoints.md"),
    "archive of pictures": (lambda: archive_of("pictures/1.png"), "it holds 'pictures/1.png'; unpack it and give"),
    "archive of a checkpoint": (lambda: archive_of("ffhq.pkl"), "no torch file .* it holds 'ffhq.pkl'; unpack it"),
    "arrays of numpy": (arrays_of_numpy, "is an npz archive of numpy arrays, .*; take .* docs/checkpoints.md"),
    "program": (program, "is a TorchScript program; save the state dict of its module"),
    "module": (lambda: torch_bytes(torch.nn.Linear(2, 2)), "asks for 'torch.nn.modules.linear.Linear', .* save its"),
    "other class": (other_class, "class 'SuperresGenerator', which is not one of StyleGAN2; .* the stage ingest"),
    **{
        f"pickle of protocol {protocol}, {kind}": (
            partial(dumps, value, protocol),
            "is a pickle of protocol 0 or 1, which is not read; load it .* protocol 2 or later",
        )
        for protocol in (0, 1)
        for kind, value in {
            "list": [1],
            "dictionary": {"G": 1},
            "empty dictionary": {},
            "tuple": (argparse.Namespace(a=1), 2, 3),
            "object": argparse.Namespace(a=1),
            "array": np.zeros(2),
            "torch file": 0x1950A86A20F9469CFC6C,
        }.items()
    },
    "cut pickle": (lambda: progan_bytes()[:-200], "damaged or cut off, download it again"),
    "cut pickle of modules": (lambda: persistence_bytes(persistence_content())[:-9], "damaged or cut off"),
    "cut archive": (
        lambda: torch_bytes(state_dict("a"))[:-100],
        "is a torch file that is cut off .*; download it again",
    ),
    "theano": (theano, "older Theano version, which is not supported; take the file of their TensorFlow version"),
    "alias-free": (
        alias_free,
        "an alias-free StyleGAN3 network, which is not supported; take a StyleGAN2 network, or .* the stage ingest",
    ),
    "plain pickle": (
        lambda: dumps({"a": [1, 2]}),
        "is a pickle of a dict without a network of a known kind; .*; take .* docs/checkpoints.md",
    ),
    "only D": (
        lambda: tensorflow_bytes(State(progan_states()[1])),
        "holds a discriminator only; images need the file with the generator",
    ),
    "only D of modules": (
        lambda: persistence_bytes({"D": persistence_content()["D"]}),
        "holds a discriminator only; images need the file with the generator",
    ),
    "snapshot": (
        lambda: tensorflow_bytes(State(progan_states()[0])),
        "is a snapshot of a training without the averaged generator .its networks are 'G'.; take the file",
    ),
    "snapshot of modules": (
        lambda: persistence_bytes({name: persistence_content()[name] for name in ("G", "D")}),
        "is a snapshot of a training without the averaged generator .its networks are 'G', 'D'.",
    ),
    "snapshot of a translator": (
        lambda: made_files()["made stargan2 with discriminator, older file"],
        "is a snapshot of a training without the averaged generator",
    ),
    "other torch network": (
        lambda: torch_bytes({"model": state_dict("conv1.weight", "fc.bias")}),
        "no known family .progan, stylegan, stylegan2, stargan2.*mfa.*: its networks are 'model' with tensors like "
        "'conv1.weight', 'fc.bias'; take .*docs/checkpoints.md., or .* with the stage ingest",
    ),
    "other state dict": (
        lambda: torch_bytes(state_dict("conv1.weight", "fc.bias")),
        "no known family .*: it is a state dict with tensors like 'conv1.weight', 'fc.bias'; take .*, or .* ingest",
    ),
    "other TensorFlow network": (
        lambda: tensorflow_bytes(State({**progan_states()[2], "build_func_name": "G_other"})),
        "networks of no known family .* 'Gs' with classes 'G_other'; take",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_that_gives_no_generator_is_named_in_one_sentence(kind: str, tmp_path: Path) -> None:
    make, sentence = OTHERS[kind]
    path = write(tmp_path / "file.pkl", make())
    with pytest.raises(WeightsError, match=sentence) as caught:
        official.open_checkpoint(path)
    assert str(caught.value).startswith(f"{path} ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("gone.pkl", ""):
        with pytest.raises(WeightsError, match=f"{tmp_path / name} cannot be read: "):
            read_contents(tmp_path / name)
