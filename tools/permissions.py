"""What an operator allows tools to do. Knows nothing of how tools are held to it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from microturn.protocols import ToolSpec, UserError

VARIABLE = "MICROTURN_PERMISSIONS"


def granted_permissions(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """The permissions that `MICROTURN_PERMISSIONS` grants, a list with commas between."""
    return frozenset(name for each in environment.get(VARIABLE, "").split(",") if (name := each.strip()))


class PermissionMissingError(UserError):
    """A tool asks for something that the operator has not allowed; the text says what to set."""

    def __init__(self, spec: ToolSpec, missing: list[str], granted: frozenset[str]) -> None:
        listed = ", ".join(f"`{name}`" for name in missing)
        setting = ",".join(sorted({*granted, *missing}))
        super().__init__(
            f"tool `{spec.name}` is left out: it asks for {listed}; set {VARIABLE}={setting} to allow that"
        )


def require_permissions(spec: ToolSpec, granted: frozenset[str]) -> None:
    """Check that all is granted that a tool asks for.

    Raises:
        PermissionMissingError: something is not.
    """
    missing = sorted(set(spec.permissions) - granted)
    if missing:
        raise PermissionMissingError(spec, missing, granted)
