"""Parts of a detector's config that are one of several models, chosen by a word under their tag.

A registry of such a part maps words to models. It stands in a module of its own that is part of no recipe, so that one
more entry changes nothing that was trained: what counts is the chosen model's settings, and the modules that it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import core_schema


class Settings(BaseModel):
    """Base of all parts' settings: frozen, unknown keys rejected, no silent conversion of types.

    module  name of the module that holds the part's code, "": the one where it is defined
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False, defer_build=True
    )

    module: ClassVar[str] = ""

    def code(self) -> str:
        """Name of the module whose code this part selects."""
        return self.module or type(self).__module__


class Augmentation(Settings):
    """Base of all augmentations.

    acts_on  kinds of rows (`detectors.preprocessing.KINDS`)
    beside   it works on the processor, in threads, whatever the device of the training
    """

    acts_on: ClassVar[tuple[str, ...]]
    beside: ClassVar[bool] = False

    augmentation: str

    def sides(self, channels: int, height: int, width: int) -> tuple[int, int]:
        """(height, width) that rows of these sides come out with. Raises ValueError where rows will not do."""
        del channels
        return height, width

    def environment(self) -> Mapping[str, str]:
        """Facts of the machine that change values, e.g. the version of libjpeg."""
        return {}


class OneOf:
    """Annotation of a setting: it is one of the registered models, the one that the word under `tag` names.

    Raises ValueError (a part of pydantic's ValidationError) with the allowed words.
    """

    def __init__(self, tag: str, registry: Mapping[str, type[Settings]]) -> None:
        self.tag, self.registry = tag, registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """The schema of a union with a tag."""
        choices = {word: handler.generate_schema(model) for word, model in self.registry.items()}
        wanted = f"expected a mapping with '{self.tag}', one of {', '.join(self.registry)}, and its settings"
        return core_schema.tagged_union_schema(
            choices, discriminator=self._word, custom_error_type="part", custom_error_message=wanted
        )

    def _word(self, value: Any) -> Any:
        return value.get(self.tag) if isinstance(value, Mapping) else getattr(value, self.tag, None)
