"""Let a node go on from the progress of another training with the same recipe, or end where that one stands.

    python -m experiments.take_up NODE --state FOLDER [--file experiments/garments.yaml]
    python -m experiments.take_up NODE --keep --state FOLDER    writes experiments/states/NODE.safetensors
    python -m experiments.take_up NODE --state experiments/states/NODE.safetensors

FOLDER holds progress.safetensors, as a training keeps it in the `scratch` of its store: of an older version of the
code, of another store, or of a recipe that was longer. Rates are constant and averages short in garments.yaml, so that
the first N thousand images of a longer training are a training of N. Write the length at which the state stands (this
program prints it) as `kimg` of the node, take the state up, and `touchstone run` makes the artifact at once, with both
players, figures and a card; with a larger `kimg` it goes on from there. The images of the node must be computed.

A state that is carried to another machine holds the averaged generator and the discriminator in float16, a seventh of
the size: the generator goes on from its average, and Adam's moments begin anew, so it is not the same training.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detectors.contract import State
from pipeline.atomic import write_bytes
from pipeline.dataset import Dataset
from pipeline.declaring.config import load_pipeline
from pipeline.errors import TouchstoneError
from pipeline.planning.pins import read_pins
from pipeline.planning.plan import make_plan
from pipeline.running.run import open_scan
from pipeline.running.task_maker import view_of
from pipeline.storage.artifacts import contents, values_digest
from pipeline.storage.store import Store
from stages.train_generator import generator_architecture, new_network, side_of
from stages.training import progress

CARRIED = Path("experiments/states")
AVERAGE, GENERATOR = "network/average/", "network/generator/"


def take_up(file: Path, node: str, state: Path, overrides: list[str]) -> float:
    """Put a kept state where the node's training looks for its own. Returns the thousands of images that it has seen.

    state: the folder of a training, or a file that `carried` made. Raises TouchstoneError where it is of another
    network or longer than the node's recipe, or where rows are missing.
    """
    pipeline = load_pipeline(file, overrides)
    store = Store(pipeline.store, writable=True)
    plan = make_plan(
        pipeline, store, open_scan(pipeline, False), pipeline.select([node]), pins=read_pins(pipeline.base)
    )
    planned = plan.artifacts.get(node)
    if planned is None or planned.node.stage.name != "train_generator":
        raise TouchstoneError(f"{node} of {file} is no training of a generator; name one that is")
    if planned.found is not None:
        raise TouchstoneError(f"{node} of {file} is made already, in {planned.found.path}; there is nothing to take up")
    datasets = {
        name: Dataset(store, *view_of(plan, found)) for name, named in planned.views.items() for found in named.values()
    }
    rows = datasets["on"]
    config, kept = planned.node.config, kept_in(state)
    recipe, side = config.recipe, side_of(rows.fields)
    seen = kept.plain["course"]["seen"] / 1000
    if seen > recipe.length(side, len(rows)):
        raise TouchstoneError(
            f"the training in {state} has seen {seen:g} thousand images, {node} wants "
            f"{recipe.length(side, len(rows)):g}; write kimg: {seen:g} in its recipe"
        )
    classes = len(recipe.domains or ()) if recipe.conditional else 0
    network = new_network(recipe.family, "generator", generator_architecture(recipe, side, classes))
    wanted = {f"network/average/{name}": value.numel() for name, value in network.state_dict().items()}
    if wanted != {name: kept.tensors[name].size for name in kept.tensors if name.startswith("network/average/")}:
        raise TouchstoneError(f"the training in {state} is of another network than {node}; name the folder of its own")
    values = {name: values_digest(data.ids, data.digests()) for name, data in datasets.items()}
    store.restart_scratch(planned.key, [values, contents({})])
    write_bytes(store.scratch(planned.key) / progress.FILE, progress.pack(as_today(kept)))
    return float(seen)


def kept_in(place: Path) -> State:
    """The state in a folder of a training, or in a file. Raises TouchstoneError where there is none."""
    file = place / progress.FILE if place.is_dir() else place
    if not file.is_file():
        raise TouchstoneError(f"--state {place}: {file} does not exist; name a folder with {progress.FILE}, or a file")
    return progress.unpack(file)


def carried(state: State) -> State:
    """Its networks in float16, without the optimizers and the generator before its average.

    Raises TouchstoneError where a value is beyond float16.
    """
    kept = {name: value for name, value in state.tensors.items() if not name.startswith(("optimizer/", GENERATOR))}
    with np.errstate(over="ignore"):  # it becomes infinite, which is refused
        tensors = {
            name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in kept.items()
        }
    for name, value in tensors.items():
        if value.dtype == np.float16 and not np.isfinite(value).all():
            raise TouchstoneError(f"{name} has values beyond float16; the state is not carried in half precision")
    return State(tensors, state.plain)


def as_today(state: State) -> State:
    """A state in the form of today, in float32: games once kept `level` and `spectral` beside the rest.

    The generator of a carried state is its average.
    """
    tensors = {
        name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in state.tensors.items()
    }
    if not any(name.startswith(GENERATOR) for name in tensors):
        again = {name: value for name, value in tensors.items() if name.startswith(AVERAGE)}
        tensors |= {name.replace(AVERAGE, GENERATOR, 1): value.copy() for name, value in again.items()}
    plain: Mapping[str, Any] = state.plain
    if "more" not in plain:
        older = ("level", "spectral")
        more = {name: plain[name] for name in older}
        plain = {name: plain[name] for name in plain if name not in older} | {"more": more}
    return replace(state, tensors=tensors, plain=dict(plain))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("node", metavar="NODE")
    parser.add_argument("--state", type=Path, required=True, help="folder with progress.safetensors, or a file")
    parser.add_argument("--keep", action="store_true", help=f"only write the state to {CARRIED}, to be carried")
    parser.add_argument("--file", type=Path, default=Path("experiments/garments.yaml"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="as of touchstone")
    arguments = parser.parse_args()
    try:
        if arguments.keep:
            CARRIED.mkdir(exist_ok=True)
            made = CARRIED / f"{arguments.node}.safetensors"
            write_bytes(made, progress.pack(carried(kept_in(arguments.state))))
            print(f"{made}: {made.stat().st_size:,} bytes")
            return
        seen = take_up(arguments.file, arguments.node, arguments.state, arguments.overrides)
    except TouchstoneError as error:
        raise SystemExit(str(error)) from None
    print(
        f"{arguments.node} goes on from {seen:g} thousand images; `touchstone run -f {arguments.file} {arguments.node}`"
    )


if __name__ == "__main__":
    main()
