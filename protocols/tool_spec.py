"""What the rest of the system knows of a tool: its name, its parameters and its limits."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from pydantic import Field, JsonValue

from microturn.protocols._message import Message

SideEffect: TypeAlias = Literal["none", "idempotent", "unsafe"]
"""`none` only reads; `idempotent` may run twice; `unsafe` must not."""
Isolation: TypeAlias = Literal["in_process", "subprocess", "sandbox"]


class ToolSpec(Message):
    """One tool, as an agent is told of it and as it is held to its limits."""

    VERSION: ClassVar[str] = "1.1"
    v: str = VERSION
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    description: str
    parameters: dict[str, JsonValue]
    """JSON schema of the arguments, an object."""
    timeout_s: float = Field(default=20.0, gt=0)
    max_concurrency: int = Field(default=4, ge=1)
    max_result_bytes: int = Field(default=16_384, ge=256)
    side_effect: SideEffect = "none"
    isolation: Isolation = "in_process"
    egress: tuple[str, ...] = ()
    """Hosts that it may reach; empty is none, `*` any public one."""
    permissions: tuple[str, ...] = ()
    spoken_filler: str | None = None
    """What may be said while it runs."""
    approval: str | None = None
    """What the user is asked before each call, with names of parameters in braces, such as "Shall I send this to
    {to}?". Only words that mean yes let it run. None asks nothing."""
