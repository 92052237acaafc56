"""Settings of generators whose last block may see something else than zeros beyond a border: see `paddings`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, ModelWrapValidatorHandler, create_model, model_validator

from pipeline.settings import Settings

NAME, PADDINGS = "padding", ("zeros", "replicate", "reflect")
ABOUT = (
    "what layers of the last block see beyond the border of a map: zeros as published, its outermost pixel again, or "
    "its mirror image; zeros leave a step at the border of images"
)


class PaddedNetwork(Settings):
    """Base of settings of a generator with convolutions, which may also name a `padding`.

    It is a field only of a network that has one: a recipe without it, or with zeros, is what it was before.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _with_padding(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, Mapping) or NAME not in given or NAME in cls.model_fields:
            return handler(given)
        network = handler({name: value for name, value in given.items() if name != NAME})
        if given[NAME] not in PADDINGS:
            raise ValueError(f"padding is {given[NAME]!r}; expected {' or '.join(PADDINGS)}")
        return network if given[NAME] == PADDINGS[0] else _padded(cls)(**network.model_dump(), padding=given[NAME])

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The setting stands in the schema of all networks."""
        found = handler(schema)
        told = handler.resolve_ref_schema(found)
        told["properties"][NAME] = {
            "default": PADDINGS[0], "description": ABOUT, "enum": list(PADDINGS), "title": "Padding", "type": "string"
        }  # fmt: skip
        return found


@cache
def _padded(network: type[PaddedNetwork]) -> Any:
    """Settings like those of a network, with a padding."""
    continued = Annotated[Literal["replicate", "reflect"], Field(description=ABOUT)]
    return create_model(network.__name__, __base__=network, __module__=network.__module__, padding=(continued, ...))
