"""Arguments of a tool that is known by its JSON schema alone: checked here before they go to the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from pydantic import BaseModel, JsonValue

from microturn.tools._errors import ToolRetry
from microturn.tools.mcp.sdk import Draft202012Validator, Registry, Unresolvable, ValidationError, extend
from microturn.tools.signature import Arguments

_PROBLEMS_SHOWN = 5


def _unchecked(*_: object) -> Iterator[ValidationError]:
    """Leave a rule to the server."""
    return iter(())


# A pattern of a stranger's can keep Python's regular expressions busy for ever.
_Validator = extend(Draft202012Validator, {"pattern": _unchecked, "patternProperties": _unchecked})
_NOTHING_ELSEWHERE: Registry[Any] = Registry()
"""Resolves references within the schema only: none is fetched."""


@dataclass(frozen=True, slots=True)
class SchemaArguments(Arguments):
    """Arguments that are handed on as one dictionary, `arguments`, beside the context."""

    @classmethod
    def of(cls, schema: Mapping[str, JsonValue]) -> Self:
        """Take a schema.

        Raises:
            SchemaError: it is not a JSON schema.
        """
        _Validator.check_schema(schema)
        return cls(dict(schema), "context", BaseModel, {})

    def validate(self, raw: dict[str, JsonValue]) -> dict[str, object]:
        """Check what a model sent; the texts name the places and the rules, never the values.

        Raises:
            ToolRetry: something is wrong or missing.
        """
        validator = _Validator(self.schema, registry=_NOTHING_ELSEWHERE)
        try:
            problems = [_described(error) for error in islice(validator.iter_errors(raw), _PROBLEMS_SHOWN)]
        except (RecursionError, Unresolvable):
            problems = []  # a schema that refers to itself or elsewhere is checked by its server
        if problems:
            raise ToolRetry(f"wrong arguments: {'; '.join(problems)}")
        return {"arguments": raw}


def _described(error: ValidationError) -> str:
    place = ".".join(map(str, error.absolute_path)) or "arguments"
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return f"`{place}`: {', '.join(f'`{name}`' for name in missing)} missing"
    if error.validator == "additionalProperties":
        return f"`{place}`: has a property that the tool does not know"
    return f"`{place}`: has to satisfy {error.validator} {error.validator_value!r}"[:300]
