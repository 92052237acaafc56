"""What a file of weights holds, for `touchstone checkpoint`: our own files and official ones of every container.

Official files can be rewritten as ours, so that later runs read plain tensors and need no conversion.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.contents import file_sha256
from pipeline.errors import ConfigError, TouchstoneError
from stages.generators import generator_file, official, weights
from stages.generators.layers import parameters
from stages.generators.weights import Header
from stages.sentences import listed, printable
from stages.weights import detector_inspection
from stages.weights.checkpoints import Contents, Converted, read_contents
from stages.weights.kinds import WITHOUT_MASKS
from stages.weights.weights_file import WeightsError, is_safetensors

OWN = "safetensors"
SHOWN = 9  # networks and other entries that the text names


def inspect(path: Path, which: str = "average", manifest: Path | None = None) -> dict[str, Any]:
    """Everything that a file says about itself, as plain data; raises ConfigError or TouchstoneError.

    Names of the file are printable: other characters are escaped, and long names cut.
    which     the generator to describe, "average" or "raw"
    manifest  of published detectors; the project's, if left out
    A network that cannot be converted is described by the reason, under "refused".
    """
    _check_is_file(path)
    if which == "discriminator":
        raise ConfigError("--network discriminator is for conversion; give --to safetensors and --out, or leave it out")
    try:
        return _described(path, which, manifest or detector_inspection.SHIPPED)
    except WeightsError as error:
        raise TouchstoneError(str(error)) from None


def convert(path: Path, which: str, to: str | None, out: Path | None, force: bool) -> dict[str, Any]:
    """Write one network of an official file as a file of ours; returns the description of the new file.

    which  "average" or "raw" for the generator, "discriminator"
    Raises ConfigError or TouchstoneError; an existing file is replaced only with `force`, and only as a whole.
    """
    if to is None or out is None:
        raise ConfigError("a conversion needs both --to safetensors and --out FILE")
    _check_is_file(path)
    if out.exists() and (not force or out.samefile(path) or not out.is_file()):
        way_out = "choose another name" if force else "choose another name, or replace it with --force"
        raise ConfigError(f"{out} exists; {way_out}")
    try:
        _rewrite(path, which, out)
        return _described(out, "average")
    except WeightsError as error:
        raise TouchstoneError(str(error)) from None


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"{path} is not a file; give the path of a checkpoint")


def _described(path: Path, which: str, manifest: Path = detector_inspection.SHIPPED) -> dict[str, Any]:
    about: dict[str, Any] = {"file": str(path), **_identity(path)}
    if is_safetensors(path):
        return {**about, **_own(path)}
    try:
        contents = read_contents(path)
        _, family, form = official.recognize(path, contents)
    except WeightsError:
        if (detector := detector_inspection.facts(path, manifest)) is not None:
            return {**about, **detector}
        raise
    about |= {"container": contents.container, "version": contents.version}
    about |= {"family": family, "form": form, "networks": _networks(contents)}
    others, unread = (sorted(map(printable, names)) for names in (contents.extra, contents.ignored))
    about |= {"other_entries": others, "unread_entries": unread}
    generator = None if official.judges_only(contents, form) else lambda: official.generator(path, contents, which)
    for role, convert_it in (("generator", generator), ("discriminator", lambda: official.judge(path, contents))):
        try:
            converted = convert_it() if convert_it else None
            about[role] = None if converted is None else _converted(path, role, converted)
        except WeightsError as error:
            about[role] = {"refused": str(error)}
    return about


def _rewrite(path: Path, which: str, out: Path) -> None:
    if is_safetensors(path):
        weights.read_header(path)
        raise WeightsError(f"{path} is a file of this project already; copy it")
    contents = read_contents(path)
    if which == "discriminator":
        converted = official.judge(path, contents)
        if converted is None:
            raise WeightsError(f"{path} has no discriminator; its networks are {listed(contents.networks)}")
    else:
        converted = official.generator(path, contents, which)
    network = "discriminator" if which == "discriminator" else "generator"
    weights.save(
        out, converted.family, converted.architecture, converted.tensors, converted.truncation, network=network
    )


def _identity(path: Path) -> dict[str, Any]:
    try:
        return {"size": path.stat().st_size, "sha256": file_sha256(path)}
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error


def _networks(contents: Contents) -> dict[str, dict[str, Any]]:
    return {
        printable(name): {
            "class": printable(network.class_name),
            "tensors": len(network.tensors),
            "values": sum(int(array.size) for array in network.tensors.values()),
        }
        for name, network in contents.networks.items()
    }


def _own(path: Path) -> dict[str, Any]:
    header = weights.read_header(path)
    values = sum(int(np.prod(shape, dtype=np.int64)) for shape in header.shapes.values())
    described = _network(path, header, values) | {"source": header.network}
    networks = {header.network: {"class": "", "tensors": len(header.shapes), "values": values}}
    return {
        "container": OWN,
        "version": weights.FORMAT,
        "family": header.family,
        "form": "touchstone",
        "networks": networks,
        "other_entries": [],
        "unread_entries": [],
        "generator": None,
        "discriminator": None,
        header.network: described,
    }


def _converted(path: Path, role: str, converted: Converted) -> dict[str, Any]:
    dimensions = {key: converted.architecture.get(key, 0) for key in weights.DIMENSIONS}
    header = Header(converted.family, converted.architecture, dimensions, converted.truncation, network=role)
    values = sum(int(array.size) for array in converted.tensors.values())
    return {**_network(path, header, values), "source": converted.source, "notes": list(converted.notes)}


def _network(path: Path, header: Header, values: int) -> dict[str, Any]:
    """One network; its trainable numbers are counted on the network that its architecture builds."""
    _, network = weights.build(str(path), header)
    return {
        **header.dimensions,
        "truncation": dict(header.truncation),
        "masks": _masks(header),
        "domains": list(map(printable, header.domains)),
        "parameters": parameters(network),
        "values": values,
        "architecture": dict(header.architecture),
    }


def _masks(header: Header) -> str | None:
    """Whether a StarGAN2 that keeps edges of its source has the masks for them; None: it keeps none."""
    if not header.architecture.get("w_hpf", 0):
        return None
    return "missing" if generator_file.lacks_masks(header) else "landmarks"


def lines(about: Mapping[str, Any]) -> list[str]:
    """A description as text for people, one fact per line."""
    version = "" if about["version"] is None else f", version {about['version']}"
    rows = [
        ("file", about["file"]),
        ("size", f"{about['size']:,} bytes"),
        ("sha256", about["sha256"]),
        ("container", about["container"] + version),
        ("family", f"{about['family']} ({about['form']})"),
    ]
    if "detector" in about:
        rows += detector_inspection.lines(about["detector"])
    else:
        rows += [row for role in ("generator", "discriminator") for row in _lines_of(role, about[role])]
    for name, facts in list(about["networks"].items())[:SHOWN]:
        kind = f"{facts['class']}, " if facts["class"] else ""
        rows.append(
            ("in the file", f"{name or 'state dict'}: {kind}{facts['tensors']} tensors, {facts['values']:,} values")
        )
    if len(about["networks"]) > SHOWN:
        rows.append(("in the file", f"{len(about['networks']) - SHOWN} more networks"))
    for key, label in (("other_entries", "other data"), ("unread_entries", "not read")):
        if names := about[key]:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            rows.append((label, ", ".join(names[:SHOWN]) + more))
    width = max(len(label) for label, _ in rows)
    return [f"{label:{width}}  {text}" for label, text in rows]


def _lines_of(role: str, facts: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if facts is None:
        return [(role, "none")]
    if "refused" in facts:
        return [(role, f"refused: {facts['refused']}")]
    constants = facts["values"] - facts["parameters"]
    extra = f" and {constants:,} constant{'s' * (constants > 1)}" if constants else ""
    rows = [(role, f"{facts['source'] or 'state dict'}: {facts['parameters']:,} parameters{extra}")]
    if role == "generator":
        psi, cutoff = facts["truncation"]["psi"], facts["truncation"]["cutoff"]
        layers = "all layers" if cutoff is None else f"the first {cutoff} layers"
        rows += [
            ("  resolution", f"{facts['resolution']} pixels"),
            (
                "  dimensions",
                f"z {facts['z_dim'] or 'as many as the image'}, w {facts['w_dim'] or 'none'}, labels {facts['c_dim']}",
            ),
            ("  truncation", "none" if psi == 1 else f"psi {psi:g} in {layers}"),
        ]
        if facts["masks"]:
            missing = f"missing: {WITHOUT_MASKS}"
            rows.append(("  masks", missing if facts["masks"] == "missing" else "of facial landmarks"))
        rows += [("  note", note) for note in facts.get("notes", ())]
        if facts["domains"]:
            rows.append(("  domains", printable(", ".join(facts["domains"]), 1000)))
    settings = ", ".join(f"{key} {value}" for key, value in facts["architecture"].items())
    return [*rows, ("  architecture", printable(settings, 1000))]
