"""Base classes for the bodies and answers of the REST API."""

from __future__ import annotations

from inspect import isclass
from typing import Any

from pydantic import BaseModel, Field, validator
from pydantic.fields import ModelField


def _show_nulls(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Mark fields that may be null in a JSON schema; pydantic 1 does not."""
    for name, field in model.__fields__.items():
        if field.allow_none:
            described = schema["properties"][name]
            kind = {key: described.pop(key) for key in list(described) if key not in ("title", "description")}
            described["anyOf"] = [*kind.pop("anyOf", [kind]), {"type": "null"}]


class Answer(BaseModel):
    """Base of all answers. OpenAPI describes them."""

    class Config:
        """Pydantic's settings."""

        schema_extra = staticmethod(_show_nulls)


class Form(BaseModel):
    """Base of all bodies. It refuses unknown fields, and does not convert values."""

    class Config:
        """Pydantic's settings."""

        extra = "forbid"
        schema_extra = staticmethod(_show_nulls)

    @validator("*", pre=True, each_item=True)
    def _unconverted(cls, value: Any, field: ModelField) -> Any:  # noqa: N805  # a class method to pydantic
        """Refuse values that pydantic 1 would convert: "5", 5.7 and true are not whole numbers."""
        wanted = field.type_
        if value is None or not isclass(wanted):
            return value
        if issubclass(wanted, bool):
            return _require(isinstance(value, bool), "true or false", value)
        if issubclass(wanted, int):
            return _require(isinstance(value, int) and not isinstance(value, bool), "a whole number", value)
        if issubclass(wanted, float):
            return _require(isinstance(value, int | float) and not isinstance(value, bool), "a number", value)
        if issubclass(wanted, str):
            return _require(isinstance(value, str), "a string", value)
        return value


def _require(right: bool, expected: str, value: Any) -> Any:
    if not right:
        raise TypeError(f"must be {expected}")
    return value


class OpenAiFailure(Answer):
    """An error in the form of OpenAI's API, for its clients."""

    message: str = Field(..., description="The same as `detail`.")
    type: str = Field(..., description="The same as `type`.")
    param: str | None = Field(..., description="Always null: `message` names the field.")
    code: str | None = Field(..., description="Always null.")


class Failure(Answer):
    """An error."""

    detail: str = Field(..., description="One line: the expected value, the given one, and the next step.")
    type: str = Field(..., description="Class of the exception, see finetuner.exceptions; 'InvalidInput' for example.")
    error: OpenAiFailure
