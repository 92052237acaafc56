"""Families of generators that can be trained, and the recipe of any of them as a setting.

A family is a name in `stages.GENERATORS` and its own modules: `<family>_recipe` with its settings (`RECIPE`), which
also say the game that trains it, `<family>`, `<family>_official`, and `<family>_discriminator` if it trains one.
Importing this module needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import BeforeValidator, Discriminator, GetCoreSchemaHandler, Tag, ValidationError

from stages import GENERATORS
from stages.generators.training_recipes import PlainRecipe
from stages.generators.weights import Header
from stages.sentences import expected

IN_RECIPES = False


class _Families(Mapping[str, type[PlainRecipe]]):
    """Name of a family -> its recipe, whose module is imported when it is asked for: a file names some of them."""

    def __getitem__(self, name: str) -> type[PlainRecipe]:
        if name not in GENERATORS:
            raise KeyError(name)
        recipe: type[PlainRecipe] = import_module(f"stages.generators.{name}_recipe").RECIPE
        return recipe

    def __iter__(self) -> Iterator[str]:
        return iter(GENERATORS)

    def __len__(self) -> int:
        return len(GENERATORS)


FAMILIES: Mapping[str, type[PlainRecipe]] = _Families()


def modules(family: str) -> tuple[str, ...]:
    """Code that a family's training reaches."""
    module, recipe = f"stages.generators.{family}", FAMILIES[family]
    networks = [module if player == "generator" else f"{module}_{player}" for player in recipe.players]
    return *networks, f"{module}_recipe", recipe.game[0]


def check_maker(stage: str, path: Path, header: Header) -> None:
    """Raise ValueError, which says where the file belongs, unless a stage makes images with the network of a header."""
    if header.network != "generator":
        raise ValueError(f"{stage}: {path} holds a {header.network}; give the weights of a generator")
    maker = FAMILIES[header.family].maker
    if maker != stage:
        raise ValueError(f"{stage}: {path} is of family {header.family}; use the stage {maker}")


def check_drawing(given: Mapping[str, Any], directions: bool, path: Path, header: Header) -> None:
    """Raise ValueError unless the settings `drawing` and `directions` of `sample` are those of a header's family."""
    recipe = FAMILIES[header.family]
    names = sorted(recipe.drawing.model_fields)
    for name in given:
        if name not in names:
            known = expected(name, names) if names else f"{header.family} has none; drop it"
            raise ValueError(f"sample: drawing.{name} is no setting for {path}; {known}")
    try:
        recipe.drawing.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("drawing", *first["loc"])))
        raise ValueError(f"sample: {place} is {first['input']!r}: {first['msg']}") from None
    if directions and not recipe.directions:
        raise ValueError(f"sample: directions have no effect on {path}, which is of family {header.family}; drop them")


def marks(header: Header, drawing: Mapping[str, Any]) -> Mapping[str, str]:
    """What images of a header's family have that photographs lack: check of an audit -> in words."""
    own = getattr(FAMILIES[header.family], "marks", None)
    return own(header.architecture, drawing) if own else {}


def _known(value: Any) -> Any:
    """Refuse what is no recipe of any family, or has a setting of another one, in words of the pipeline file."""
    if isinstance(value, PlainRecipe):
        return value
    names = ", ".join(FAMILIES)
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping with 'family' (one of {names}) and its settings")
    family = value.get("family")
    if family is None:
        raise ValueError(f"lacks 'family', one of {names}")
    if family not in FAMILIES:
        raise ValueError(f"its family is {family!r}; {expected(str(family), FAMILIES)}")
    for name in value:
        if name not in FAMILIES[family].model_fields:
            others = [other for other, model in FAMILIES.items() if name in model.model_fields]
            if others:
                raise ValueError(f"'{name}' is a setting of {' and '.join(others)}, not of {family}; drop it")
    return value


def _family(value: Any) -> str | None:
    return value.get("family") if isinstance(value, dict) else getattr(value, "family", None)


class OneOfTheFamilies:
    """A recipe is one of those of FAMILIES, chosen by `family`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        choices = tuple(Annotated[model, Tag(name)] for name, model in FAMILIES.items())
        return handler.generate_schema(
            Annotated[Union[choices], Discriminator(_family), BeforeValidator(_known)]  # noqa: UP007
        )


AnyRecipe = Annotated[PlainRecipe, OneOfTheFamilies()]
