"""From a function's parameters to a pydantic model and its JSON schema. Knows nothing of calling the function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError

from microturn.protocols import UserError
from microturn.tools._errors import ToolRetry
from microturn.tools.context import ToolContext
from microturn.tools.docstring import Docstring

_KEPT_AS_THEY_ARE = frozenset({"default", "enum", "const", "examples"})
_TAKEN_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The parameters of a tool, as the model is told of them and as its calls are checked."""

    schema: dict[str, JsonValue]
    context_parameter: str | None
    """The parameter that takes the `ToolContext`, which the model never sees."""
    _model: type[BaseModel]
    _fields: dict[str, str]
    """Field of the model for each parameter. Fields have names of their own, so that a parameter may be called
    `json` or `_x` without clashing with pydantic's."""

    def validate(self, raw: dict[str, JsonValue]) -> dict[str, object]:
        """Check and convert what a model sent into keyword arguments.

        Raises:
            ToolRetry: something is wrong or missing. The text names the fields and the rules, never the values.
        """
        try:
            checked = self._model.model_validate(raw)
        except ValidationError as error:
            problems = "; ".join(
                f"`{'.'.join(map(str, e['loc'])) or 'arguments'}`: {e['msg']}"
                for e in error.errors(include_url=False, include_input=False, include_context=False)
            )
            raise ToolRetry(f"wrong arguments: {problems}") from None
        return {name: getattr(checked, field) for name, field in self._fields.items()}


def read_signature(function: Callable[..., object], label: str, doc: Docstring) -> Arguments:
    """Build the arguments of a function; `label` names the tool in errors.

    Raises:
        UserError: a parameter has no usable type, or the docstring describes one that does not exist.
    """
    parameters = inspect.signature(function).parameters
    hints = _hints(function, label)
    fields: dict[str, str] = {}
    definitions: dict[str, Any] = {}  # the type that create_model takes
    context_parameter = None
    for name, parameter in parameters.items():
        hint = _hint(parameter, hints, label)
        if hint is ToolContext:
            if context_parameter is not None:
                raise UserError(f"{label} has two parameters of type ToolContext; leave one of them out")
            context_parameter = name
            continue
        fields[name] = f"arg_{len(fields)}"
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        described = Field(alias=name, description=doc.arguments.get(name))
        definitions[fields[name]] = (Annotated[hint, described], default)
    unknown = sorted(set(doc.arguments) - set(parameters))
    if unknown:
        raise UserError(f"the docstring of {label} describes {unknown}, which are not among its parameters")
    model = _build(label, definitions)
    return Arguments(_schema(model, label), context_parameter, model, fields)


def _hints(function: Callable[..., object], label: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise UserError(
            f"a type in the signature of {label} cannot be resolved: {error}; "
            "import or define it at the top level of the module, not under TYPE_CHECKING or in a function"
        ) from None


def _hint(parameter: inspect.Parameter, hints: dict[str, Any], label: str) -> Any:  # Any: a type expression
    if parameter.kind not in _TAKEN_BY_NAME:
        raise UserError(
            f"parameter `{parameter.name}` of {label} cannot be given by name, and a model gives every argument "
            "by name; make it an ordinary parameter"
        )
    if parameter.name not in hints:
        raise UserError(
            f"parameter `{parameter.name}` of {label} has no type; "
            f"annotate it, for example `{parameter.name}: str`, so that models know what to send"
        )
    return hints[parameter.name]


def _build(label: str, definitions: dict[str, Any]) -> type[BaseModel]:
    try:
        return create_model("Arguments", __config__=ConfigDict(extra="forbid"), **definitions)
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"a parameter of {label} has a type without a JSON form: {reason}") from None


def _schema(model: type[BaseModel], label: str) -> dict[str, JsonValue]:
    try:
        schema = model.model_json_schema(by_alias=True)
    except PydanticInvalidForJsonSchema as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"a parameter of {label} has a type without a JSON form: {reason}") from None
    untitled = _without_titles(schema)
    assert isinstance(untitled, dict)
    return untitled


def _without_titles(node: JsonValue) -> JsonValue:
    """Take out the titles, which repeat the names and cost the model tokens."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value if key in _KEPT_AS_THEY_ARE else _without_titles(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str))
    }
