"""Arguments of a tool as they are typed on a command line: `name=value`."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import JsonValue
from pydantic_core import from_json

from microturn.protocols import ToolSpec, UserError


def read_arguments(spec: ToolSpec, pairs: Iterable[str], text: str | None) -> dict[str, JsonValue]:
    """Put arguments together from a JSON object and from pairs, which go over it.

    A value is text where the tool takes text there, and JSON where it does not: `limit=3`, `names=["Ada"]`.

    Raises:
        UserError: a pair has no `=`, or something is not JSON.
    """
    arguments = _object(text) if text is not None else {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"cannot read the argument {pair!r}; write it like name=value")
        arguments[name] = value if _takes_text(spec, name) else _value(name, value)
    return arguments


def _object(text: str) -> dict[str, JsonValue]:
    try:
        read = from_json(text)
    except ValueError as error:
        raise UserError(f"cannot read what --json gives: {error}") from None
    if not isinstance(read, dict):
        raise UserError('--json has to give an object, such as \'{"name": "Ada"}\'')
    return read


def _takes_text(spec: ToolSpec, name: str) -> bool:
    properties = spec.parameters.get("properties")
    described = properties.get(name) if isinstance(properties, dict) else None
    if not isinstance(described, dict):
        return True
    options = described.get("anyOf")
    kinds = [described, *options] if isinstance(options, list) else [described]
    return any(
        isinstance(kind, dict) and (kind.get("type") == "string" or "$ref" in kind or "enum" in kind)
        for kind in kinds
    )


def _value(name: str, text: str) -> JsonValue:
    try:
        value: JsonValue = from_json(text)
    except ValueError:
        return text  # the tool says what it wants instead
    return value
