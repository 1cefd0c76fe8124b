"""The JSON schema of one action, put together from the schemas of the tools.

An action is `{"tool": NAME, "arguments": {...}}`, `{"say": TEXT}` or `{"final": TEXT}`. The schema is what makes a
small model usable: it cannot write anything else. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from microturn.protocols import ToolSpec

_STRING_CHARS = 240
"""Longest string argument where the tool sets no limit of its own: a model that rambles ends here."""
_DROPPED = frozenset({"title", "examples", "default", "description"})
"""Words for readers, which the grammar of a server does not need."""


def action_schema(
    specs: Sequence[ToolSpec], *, can_say: bool, final_only: bool, answer_chars: int
) -> dict[str, JsonValue]:
    """Schema of what the model may write now. Equal inputs give equal bytes."""
    final = _only("final", {"type": "string", "minLength": 1, "maxLength": answer_chars})
    if final_only:
        return final
    definitions: dict[str, JsonValue] = {}
    actions: list[JsonValue] = [_call(spec, definitions) for spec in specs]
    if can_say:
        actions.append(_only("say", {"type": "string", "minLength": 1, "maxLength": answer_chars}))
    actions.append(final)
    schema: dict[str, JsonValue] = {"anyOf": actions}
    if definitions:
        schema["$defs"] = definitions
    return schema


def _only(name: str, value: JsonValue) -> dict[str, JsonValue]:
    return {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}


def _call(spec: ToolSpec, definitions: dict[str, JsonValue]) -> JsonValue:
    """Schema of a call of one tool; what its arguments define is moved to the root under a name of its own."""
    parameters = dict(spec.parameters)
    own = parameters.pop("$defs", None)
    if isinstance(own, dict):
        for name, definition in own.items():
            definitions[f"{spec.name}.{name}"] = _tidy(definition, spec.name)
    arguments = _tidy(parameters, spec.name)
    properties: JsonValue = {"tool": {"const": spec.name}, "arguments": arguments}
    return {
        "type": "object",
        "properties": properties,
        "required": ["tool", "arguments"],
        "additionalProperties": False,
    }


def _tidy(schema: JsonValue, tool: str) -> JsonValue:
    """The schema without words for readers, with a limit on strings, its references moved."""
    if isinstance(schema, list):
        return [_tidy(item, tool) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidy: dict[str, JsonValue] = {}
    for key, value in schema.items():
        if key == "properties" and isinstance(value, dict):
            tidy[key] = {name: _tidy(item, tool) for name, item in value.items()}
        elif key == "$ref" and isinstance(value, str):
            tidy[key] = value.replace("#/$defs/", f"#/$defs/{tool}.")
        elif key not in _DROPPED:
            tidy[key] = value if key in {"enum", "const", "required"} else _tidy(value, tool)
    if tidy.get("type") == "string" and not {"enum", "const", "pattern", "format"} & tidy.keys():
        tidy.setdefault("maxLength", _STRING_CHARS)
    if tidy.get("type") == "object":
        tidy.setdefault("additionalProperties", False)
    return tidy
