"""Which of the ways in a card an image goes that somebody asks about: the plain one, if both classes went it.

Where the classes passed unlike steps (+P or +E on fakes only), no image can be told by its score: whoever asks has to
say which steps it should pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from pipeline.errors import StageError
from pipeline.lineage import KeptChain, KeptChains

Class = Literal["real", "fake"]
CLASSES: tuple[Class, ...] = ("real", "fake")
WAY_OUT = "with --as real or --as fake (as_class in Python and in a node)"


def chain_number(card: Mapping[str, Any], as_class: Class | None = None) -> int | None:
    """Number of the chain in a card; None where the card itself has to say why it has none.

    as_class: the class whose steps are asked for. Raises StageError where there is no one way.
    """
    try:
        found = KeptChains.model_validate(card.get("lineage"))
    except (ValidationError, RecursionError):
        return None
    ways = {name: [n for n, one in enumerate(found.chains) if _rows(one, name)] for name in CLASSES}
    if as_class is not None:
        return _of_class(found, ways[as_class], as_class)
    if found.plain is None and any(ways.values()):
        raise StageError(
            f"the model has no one way from an image to its feature: {found.why_not}; say whose steps an image should "
            f"pass {WAY_OUT}"
        )
    lacking = [name for name in CLASSES if ways[name] and found.plain not in ways[name]]
    if found.plain is not None and lacking:
        told = ", ".join(f"{name} rows {_told(found, ways[name])}" for name in CLASSES if ways[name])
        raise StageError(
            f"the model's classes passed unlike steps ({told}), so that a score tells the steps apart and not the "
            f"images; say whose steps an image should pass {WAY_OUT}"
        )
    return found.plain


def _of_class(found: KeptChains, ways: list[int], name: Class) -> int | None:
    plain = [number for number in ways if found.chains[number].plain]
    if found.plain in ways or not any(one.rows for one in found.chains):
        return found.plain
    if len(ways) == 1 or len(plain) == 1:
        return (plain or ways)[0]
    if not ways:
        raise StageError(f"the model learned from no {name} rows, so that their steps are not known; leave out --as")
    raise StageError(
        f"the model's {name} rows came by {len(ways)} ways ({_told(found, ways)}), and none of them is the plain one; "
        "train on rows of one way"
    )


def _rows(chain: KeptChain, name: Class) -> int:
    return sum(count.get(name, 0) for count in chain.rows.values())


def _told(found: KeptChains, ways: list[int]) -> str:
    return " or ".join(dict.fromkeys(str(found.chains[number]) for number in ways))
