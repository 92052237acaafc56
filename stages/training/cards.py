"""What a training of networks leaves beside its weights: card, log of its course, pictures made on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from pipeline.atomic import write_bytes, write_json
from pipeline.stage import FitContext

CARD, LOG = "card.json", "log.json"


def publish_training(
    ctx: FitContext, card: Mapping[str, Any], libraries: Sequence[str], log: Sequence[Mapping[str, float]]
) -> None:
    """Write `card.json` (with device, threads and versions of libraries), `log.json` and the pictures of scratch."""
    made_with = {"device": ctx.device, "threads": ctx.threads}
    versions = {name: version(name).partition("+")[0] for name in libraries}
    write_json(ctx.out / CARD, {**card, **made_with, "libraries": versions})
    write_bytes(ctx.out / LOG, (json.dumps(log) + "\n").encode())
    for picture in sorted(ctx.scratch.glob("samples-*.png")):
        write_bytes(ctx.out / picture.name, picture.read_bytes())
    ctx.facts.update({"figures": card["figures"], "last": log[-1] if log else {}})
