"""The classifier that a joint training left, as the detector of a `train` node: what is promised of it, and its files.

It is of use on residuals that the re-synthesizer of the same training makes, and on no others, so others are refused.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from detectors.contract import State
from detectors.joint_classifier import Config
from pipeline.contents import file_sha256
from pipeline.errors import StageError
from pipeline.stage import FAKE, Artifact, FitContext, Promise, Rows
from stages.evaluation.json_file import read_json
from stages.residual import Residual, field_of
from stages.resynthesis import weights
from stages.resynthesis.joint_files import CLASSIFIER, ids_digest
from stages.training.cards import CARD

SETTING = "pretrained"


def detector_of(promise: Promise) -> Config:
    """The detector that a node's training leaves. Raises ValueError with one sentence."""
    joint = promise.facts.get("joint")
    if joint is None:
        raise ValueError(
            f"'{SETTING}' is {promise}, which trains no classifier; give that node 'joint', or name one that has it"
        )
    return Config.model_validate({"feature": field_of(joint["feature"]), "classifier": joint["classifier"]})


def weights_of(config: Config, rows: Rows, ctx: FitContext) -> dict[str, NDArray[Any]]:
    """Its tensors, for residuals of its own. Raises StageError where the rows are others."""
    from safetensors.numpy import load_file

    artifact = ctx.artifacts[SETTING][0]
    check_rows(config, artifact, rows)
    return dict(load_file(artifact.path / CLASSIFIER))


def check_rows(config: Config, artifact: Artifact, rows: Rows) -> None:
    """Raise StageError unless the node's own networks made the rows, of the images that it learned from."""
    card, node = read_json(artifact.path / CARD), artifact.node
    networks = {file_sha256(artifact.path / weights.FILE)}
    if config.feature != field_of("pixel"):
        networks.add(card["files"]["perceptual"]["sha256"])
    for lineage in filter(None, (part.lineage for part in rows.parts)):
        made = [{kept.sha256 for _, kept in step.kept_files} for step in lineage.steps if step.stage == Residual.name]
        if not all(networks <= files for files in made):
            raise StageError(
                f"rows of 'on' are residuals of other networks than those of '{node}'; set `model: {node}` in the node "
                "that makes them, and the same 'perceptual'"
            )
    train = rows.split("train")
    if ids_digest(train.where(train.column("label") == FAKE)) != card["fake_ids"]:
        raise StageError(
            f"the fakes of split train in 'on' are not those that '{node}' learned from; name residuals of those"
        )


def card_of(config: Config, state: State, rows: Rows, ctx: FitContext) -> dict[str, Any]:
    """What the card has beside that of a training; rows: as `check_rows` has found them."""
    del config, state
    artifact, train = ctx.artifacts[SETTING][0], rows.split("train")
    fakes = train.column("source")[train.column("label") == FAKE]
    digest = file_sha256(artifact.path / CLASSIFIER)
    return {
        "pretrained": {"node": artifact.node, "key": artifact.key, "sha256": digest},
        "trained_on": sorted(set(fakes.tolist())),
    }
