"""What every group of settings is made of."""

from __future__ import annotations

from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


def setting(default: Any, help_text: str, *, unit: str = "", **bounds: Any) -> Any:
    """A field with its default, its line of help and its unit."""
    return Field(default, description=help_text, json_schema_extra={"unit": unit}, **bounds)


class Emptiable(BaseModel):
    """An empty text is no value, where a field can do without one."""

    @field_validator("*", mode="before")
    @classmethod
    def _emptied(cls, value: Any, info: ValidationInfo) -> Any:
        if value != "" or info.field_name is None:
            return value
        allowed = get_args(cls.model_fields[info.field_name].annotation)
        return None if NoneType in allowed else value


class Group(Emptiable):
    """Settings that belong together. A refused value is never printed: it may be a secret."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )
