"""The base of all models of settings: of stages, and of what stands in them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, unknown keys rejected, no silent conversion of types."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False, defer_build=True
    )

    def chosen(self) -> set[str]:
        """Names of the settings that are given and other than by default.

        A default that is spelled out counts as none, also where it has no effect: cards and recipes spell out all
        settings, and are read again.
        """
        found = {name: info.get_default(call_default_factory=True) for name, info in type(self).model_fields.items()}
        return {name for name in self.model_fields_set if getattr(self, name) != found[name]}
