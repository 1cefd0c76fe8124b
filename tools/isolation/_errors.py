"""Errors of tools that run outside the process.

MicroturnError
├── UserError
│   └── SandboxUnavailableError  no sandbox works on this machine
└── ToolError
    ├── ChildBrokenError         the tool cannot be loaded in a child process
    └── ChildDiedError           the child process ended in the middle of a call
"""

from __future__ import annotations

from microturn.protocols import UserError
from microturn.tools._errors import ToolError


class SandboxUnavailableError(UserError):
    """No sandbox works on this machine; the text says what was tried and what to install."""


class ChildBrokenError(ToolError):
    """The tool cannot be loaded in a child process."""


class ChildDiedError(ToolError):
    """The child process ended in the middle of a call: a limit was passed, or its code crashed."""
