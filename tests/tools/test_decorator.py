"""What the decorator reads off a function, and what it refuses."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from microturn.protocols import UserError
from microturn.tools import Tool, ToolContext, tool

pytestmark = pytest.mark.unit


class Address(BaseModel):
    street: str
    title: str = "home"


@tool
async def deliver(
    to: Address,
    count: Annotated[int, Field(ge=1, le=9)],
    context: ToolContext,
    speed: Literal["slow", "fast"] = "slow",
    notes: list[str] | None = None,
) -> str:
    """Deliver parcels.

    More than one at a time.

    Args:
        to: Where they go.
        count (int): How many
            parcels.
        speed: How quickly.

    Returns:
        A sentence.
    """
    return f"{count} to {to.street}, {speed}, {notes}, {context.idempotency_key}"


def test_name_description_and_schema_come_from_the_function() -> None:
    schema = deliver.spec.parameters
    properties = schema["properties"]

    assert (deliver.spec.name, deliver.spec.description) == (
        "deliver",
        "Deliver parcels.\n\nMore than one at a time.",
    )
    assert isinstance(properties, dict)
    assert list(properties) == ["to", "count", "speed", "notes"]
    assert properties["count"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
        "description": "How many parcels.",
    }
    assert properties["speed"] == {
        "type": "string",
        "enum": ["slow", "fast"],
        "default": "slow",
        "description": "How quickly.",
    }
    assert schema["required"] == ["to", "count"]
    assert schema["additionalProperties"] is False


def test_titles_are_left_out_but_not_properties_of_that_name() -> None:
    definitions = deliver.spec.parameters["$defs"]

    assert isinstance(definitions, dict)
    address = definitions["Address"]
    assert isinstance(address, dict)
    assert "title" not in address
    assert address["properties"] == {
        "street": {"type": "string"},
        "title": {"type": "string", "default": "home"},
    }


@pytest.mark.anyio
async def test_a_tool_stays_callable_as_the_plain_function(context: ToolContext) -> None:
    assert await deliver(Address(street="Main"), 2, context) == "2 to Main, slow, None, task/0"
    assert deliver.__name__ == "deliver"


def test_parameters_may_have_names_that_clash_with_pydantics() -> None:
    @tool
    async def odd(json: int, model_config: str, _x: bool, copy: float = 1.0) -> str:
        """Take odd names."""
        return f"{json} {model_config} {_x} {copy}"

    values = odd.arguments.validate({"json": 1, "model_config": "m", "_x": True})

    assert values == {"json": 1, "model_config": "m", "_x": True, "copy": 1.0}


def test_options_end_up_in_the_spec() -> None:
    @tool(
        name="other_name",
        timeout_s=3,
        max_concurrency=1,
        max_result_bytes=300,
        side_effect="unsafe",
        egress=("example.org",),
        permissions=("mail",),
        spoken_filler="One moment.",
    )
    async def named() -> None:
        """Do nothing."""

    spec = named.spec
    assert (spec.name, spec.timeout_s, spec.max_concurrency, spec.max_result_bytes) == (
        "other_name",
        3,
        1,
        300,
    )
    assert (spec.side_effect, spec.egress, spec.permissions) == ("unsafe", ("example.org",), ("mail",))
    assert spec.spoken_filler == "One moment."


def _no_docstring() -> object:
    @tool
    async def bare(x: int) -> None: ...

    return bare


def _no_type() -> object:
    async def untyped(x) -> None:  # type: ignore[no-untyped-def]  # because the missing type is what is tested
        """Do."""

    return tool(untyped)


def _not_async() -> object:
    def plain(x: int) -> None:
        """Do."""

    return tool(plain)  # type: ignore[arg-type]  # because a plain function is what is tested


def _star_args() -> object:
    @tool
    async def many(*xs: int) -> None:
        """Do."""

    return many


def _unknown_argument() -> object:
    @tool
    async def renamed(new: int) -> None:
        """Do.

        Args:
            old: It was called so.
        """

    return renamed


def _no_json_form() -> object:
    @tool
    async def opaque(x: Tool[..., object]) -> None:
        """Do."""

    return opaque


def _two_contexts() -> object:
    @tool
    async def twice(a: ToolContext, b: ToolContext) -> None:
        """Do."""

    return twice


def _bad_name() -> object:
    @tool(name="No Spaces")
    async def fine() -> None:
        """Do."""

    return fine


def _bad_limit() -> object:
    @tool(timeout_s=0)
    async def never() -> None:
        """Do."""

    return never


@pytest.mark.parametrize(
    ("mistake", "hint"),
    [
        (_no_docstring, "write one sentence"),
        (_no_type, "`x: str`"),
        (_not_async, "async def"),
        (_star_args, "ordinary parameter"),
        (_unknown_argument, "old"),
        (_no_json_form, "JSON"),
        (_two_contexts, "two parameters"),
        (_bad_name, "name"),
        (_bad_limit, "timeout_s"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_developers_mistake_says_how_to_mend_it(mistake: object, hint: str) -> None:
    assert callable(mistake)
    with pytest.raises(UserError, match=hint):
        mistake()


def test_a_type_that_cannot_be_resolved_is_explained() -> None:
    async def lost(x: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821  # because it is what is tested
        """Do."""

    with pytest.raises(UserError, match="top level"):
        tool(lost)


async def sends(to: str, text: str = "") -> str:
    """Send a message."""
    return f"{to}: {text}"


def test_an_approval_names_parameters() -> None:
    made = tool(approval="Shall I send {text} to {to}?")(sends)
    assert made.spec.approval == "Shall I send {text} to {to}?"
    assert tool(sends).spec.approval is None


@pytest.mark.parametrize(
    "approval",
    ["", "  ", "Send to {whom}?", "Send to {to.__class__}?", "Send to {}?", "Send to {to?", "Send to to}?"],
)
def test_an_approval_that_cannot_be_asked_is_refused(approval: str) -> None:
    with pytest.raises(UserError, match="approval"):
        tool(approval=approval)(sends)
