"""How all processes of a chaos run take part in its bus."""

from __future__ import annotations

from microturn.runtime.bus import BusSettings

LEASE_S = 1.0
DEADLINE_S = 45.0
"""How long an answer is worth having."""


def settings_for(url: str) -> BusSettings:
    """The settings of a process that reaches the server at `url`."""
    return BusSettings(url, tenant="chaos", lease_s=LEASE_S, presence_s=0.25)
