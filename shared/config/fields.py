"""What every group of settings is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def setting(default: Any, help_text: str, *, unit: str = "", **bounds: Any) -> Any:
    """A field with its default, its line of help and its unit."""
    return Field(default, description=help_text, json_schema_extra={"unit": unit}, **bounds)


class Group(BaseModel):
    """Settings that belong together. A refused value is never printed: it may be a secret."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )
