"""Errors of the tools.

MicroturnError
└── ToolError                   a call that gave no result
    ├── ToolRetry               the model may call again with other arguments
    ├── ToolFailed              calling again with other arguments would not help
    │   ├── ReferenceGoneError  what was kept for a while is not there any more
    │   └── ReferenceAlteredError  what is there is not what was kept
    └── UnknownToolError        no tool has this name

A developer's mistake (a tool without types, two tools of one name) is a `UserError` of `microturn.protocols`.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from microturn.protocols import MicroturnError, Reference

_SHOWN_NAME = 64


class ToolError(MicroturnError):
    """A call that gave no result. Its text is shown to the model and never logged."""


class ToolRetry(ToolError):
    """Raised by a tool: the model may call it again with other arguments; the text says which ones."""


class ToolFailed(ToolError):
    """Raised by a tool: it cannot do this now, whatever the arguments; the text says why."""


class ReferenceGoneError(ToolFailed):
    """What a reference stands for is not there any more, or was never stored."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(
            f"cannot load what was shown at {reference.time_ms / 1000:g} s of the session: it was kept for "
            f"{reference.ttl_s:g} s and is gone; ask the user to show it again"
        )


class ReferenceAlteredError(ToolFailed):
    """What a reference stands for is something else than what was kept, or the reference is not a true one."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(
            f"cannot load what was shown at {reference.time_ms / 1000:g} s of the session: what is stored is not what "
            "the reference says; ask the user to show it again"
        )


class UnknownToolError(ToolError):
    """No tool has this name; the text has the names that are most like it, or else all of them."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = get_close_matches(name, names)
        hint = "did you mean " if close else "the tools are "
        listed = ", ".join(f"`{n}`" for n in close or names) or "none at all"
        super().__init__(f"there is no tool {name[:_SHOWN_NAME]!r}; {hint}{listed}")
        self.name = name
        self.near = tuple(close)
