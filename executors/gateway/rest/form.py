"""What every body and every answer of the REST API has in common."""

from __future__ import annotations

from inspect import isclass
from typing import Any

from pydantic import BaseModel, Field, validator
from pydantic.fields import ModelField


def _show_nulls(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Say in a JSON schema which fields may be null; pydantic 1 does not."""
    for name, field in model.__fields__.items():
        if field.allow_none:
            described = schema["properties"][name]
            kind = {key: described.pop(key) for key in list(described) if key not in ("title", "description")}
            described["anyOf"] = [*kind.pop("anyOf", [kind]), {"type": "null"}]


class Answer(BaseModel):
    """An answer, as OpenAPI describes it."""

    class Config:
        """Of pydantic."""

        schema_extra = staticmethod(_show_nulls)


class Form(BaseModel):
    """A body: fields that nobody reads are refused, and values are taken as they came."""

    class Config:
        """Of pydantic."""

        extra = "forbid"
        schema_extra = staticmethod(_show_nulls)

    @validator("*", pre=True, each_item=True)
    def _as_it_came(cls, value: Any, field: ModelField) -> Any:  # noqa: N805  # a class method to pydantic
        """Refuse what pydantic 1 would turn into another type: "5", 5.7 and true are no whole numbers."""
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


class Failure(Answer):
    """What went wrong."""

    detail: str = Field(..., description="One sentence: what was expected, what came, what to do.")
