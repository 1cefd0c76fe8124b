"""`@tool`: an async function with types and a docstring becomes a tool.

Knows nothing of registries, agents or transports.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, ParamSpec, TypeAlias, TypeVar, overload

from pydantic import ValidationError

from microturn.protocols import Isolation, SideEffect, ToolSpec, UserError
from microturn.tools.docstring import Docstring, parse_docstring
from microturn.tools.phrases import Phrase
from microturn.tools.signature import Arguments, read_signature

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class Tool(Generic[P, R_co]):
    """An async function and what others may know of it. Calling it calls the function, unchecked and unlimited."""

    __name__: str

    def __init__(
        self,
        function: Callable[P, Awaitable[R_co]],
        spec: ToolSpec,
        arguments: Arguments,
        phrases: tuple[Phrase, ...] = (),
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.spec = spec
        self.arguments = arguments
        self.phrases = phrases
        """Ways of asking for it that need no model to be understood."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R_co]:
        """Call the function as it was written."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.spec.name}>"


AnyTool: TypeAlias = Tool[..., object]
"""A tool, whatever its parameters and result."""


@overload
def tool(function: Callable[P, Awaitable[R]], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    timeout_s: float = 20.0,
    max_concurrency: int = 4,
    max_result_bytes: int = 16_384,
    side_effect: SideEffect = "none",
    isolation: Isolation = "in_process",
    egress: tuple[str, ...] = (),
    permissions: tuple[str, ...] = (),
    spoken_filler: str | None = None,
    approval: str | None = None,
    phrases: Iterable[str | Phrase] = (),
) -> Callable[[Callable[P, Awaitable[R]]], Tool[P, R]]: ...


def tool(
    function: Callable[P, Awaitable[R]] | None = None,
    /,
    *,
    name: str | None = None,
    timeout_s: float = 20.0,
    max_concurrency: int = 4,
    max_result_bytes: int = 16_384,
    side_effect: SideEffect = "none",
    isolation: Isolation = "in_process",
    egress: tuple[str, ...] = (),
    permissions: tuple[str, ...] = (),
    spoken_filler: str | None = None,
    approval: str | None = None,
    phrases: Iterable[str | Phrase] = (),
) -> Tool[P, R] | Callable[[Callable[P, Awaitable[R]]], Tool[P, R]]:
    """Make a tool of an async function; used bare or with options.

    The function's name (or `name`), its docstring in Google style and its type hints are what a model is told.
    A parameter annotated `ToolContext` is filled in by the registry and not shown. A tool outside of a sandbox is
    trusted to keep to its `egress`.

    Args:
        function: The function, where the decorator is used bare.
        name: What models call it: lower case letters, digits and underscores.
        timeout_s: Seconds after which a call is cancelled.
        max_concurrency: Calls of this tool that run at once in one registry; the others wait.
        max_result_bytes: Longest result; the middle of a longer one is left out.
        side_effect: Whether it may be run again after a crash.
        isolation: Where it runs: "in_process"; "subprocess", which is ended where the code blocks; or "sandbox", for
            code that is not trusted. The last two need it at the top level of a module that can be imported.
        egress: Hosts that it reaches, such as "api.example.org" or "*.example.net"; "*" is any public one. A sandbox
            has a way to no other.
        permissions: Names of what else it needs; a registry takes it only where the operator has granted them.
        spoken_filler: What may be said while it runs.
        approval: What the user is asked before each call, with parameters in braces, such as "Shall I send this to
            {to}?". Only words that mean yes let it run.
        phrases: Ways of asking for it that are understood at once, such as "how many seats are left in {room}";
            see `Phrase`.

    Raises:
        UserError: the function is not async, lacks a docstring or a type, or `approval` names what is no parameter;
            the text says how to mend it.
    """

    understood = tuple(Phrase(each) if isinstance(each, str) else each for each in phrases)

    def decorate(target: Callable[P, Awaitable[R]]) -> Tool[P, R]:
        label = f"tool `{name or getattr(target, '__name__', repr(target))}`"
        doc = _checked(target, label)
        arguments = read_signature(target, label, doc)
        if approval is not None:
            _check_approval(approval, arguments, label)
        try:
            spec = ToolSpec(
                name=name or target.__name__,
                description=doc.description,
                parameters=arguments.schema,
                timeout_s=timeout_s,
                max_concurrency=max_concurrency,
                max_result_bytes=max_result_bytes,
                side_effect=side_effect,
                isolation=isolation,
                egress=egress,
                permissions=permissions,
                spoken_filler=spoken_filler,
                approval=approval,
            )
        except ValidationError as error:
            problems = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())
            raise UserError(f"{label} has an option out of range: {problems}") from None
        return Tool(target, spec, arguments, understood)

    return decorate if function is None else decorate(function)


def _check_approval(sentence: str, arguments: Arguments, label: str) -> None:
    """Check what the user is asked before a call.

    Raises:
        UserError: it has no words, or braces around something that is no parameter.
    """
    known = arguments.schema.get("properties")
    names = list(known) if isinstance(known, dict) else []
    unknown = sorted(set(re.findall(r"\{([^{}]*)\}", sentence)) - set(names))
    if unknown or not sentence.strip() or re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", sentence)):
        raise UserError(
            f"the approval of {label} has to be a sentence with parameters in braces, but {unknown or 'a brace'} is "
            f'none of its parameters {names}; write it like "Shall I send this to {{to}}?"'
            if sentence.strip()
            else f"the approval of {label} is empty; write what the user is asked, or leave it out"
        )


def _checked(target: Callable[..., object], label: str) -> Docstring:
    """Return what the docstring says.

    Raises:
        UserError: the function is not async or has no docstring.
    """
    if not inspect.iscoroutinefunction(target):
        raise UserError(
            f"{label} is not an async function; write `async def`, and move blocking work to a thread with "
            "`await anyio.to_thread.run_sync(...)` inside it"
        )
    doc = parse_docstring(target.__doc__ or "")
    if not doc.description:
        raise UserError(f"{label} has no docstring; write one sentence that tells a model when to call it")
    return doc
