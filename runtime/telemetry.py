"""Names of everything that is measured or traced, and the W3C trace context that travels with a delegation.

Every name stands here, with unit and meaning. GenAI and messaging names follow the OpenTelemetry semantic
conventions, those with `microturn.` are ours. What a user said is never in a name or an attribute listed here.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

TICK_DURATION: Final = "microturn.tick.duration"
"""Histogram, seconds: how long one step took, model included."""
TICK_RUNTIME: Final = "microturn.tick.runtime"
"""Histogram, seconds: the runtime's own part of a step."""
TICK_LATENESS: Final = "microturn.tick.lateness"
"""Histogram, seconds: how long after it was due a step began."""
TICK_MISSED: Final = "microturn.tick.missed"
"""Counter, micro-turns without a step of their own; attribute `reason`."""
WEAVE_WAIT: Final = "microturn.weave.wait"
"""Histogram, seconds: from the arrival of a result to its weaving."""
DELEGATION_STATE: Final = "microturn.delegation.state"
"""Attribute: the kind of a delegation's newest event."""
DELEGATION_ATTEMPT: Final = "microturn.delegation.attempt"
"""Attribute: number of the attempt, from 1."""
CONVERSATION_ID: Final = "gen_ai.conversation.id"
"""Attribute: the session's id."""
AGENT_NAME: Final = "gen_ai.agent.name"
"""Attribute: the background agent's name."""
TOOL_NAME: Final = "gen_ai.tool.name"
"""Attribute: a tool's name."""


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span's identity, as `traceparent` writes it. Source: W3C Trace Context, level 1."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""

    def headers(self) -> dict[str, str]:
        """What travels with a message. The sampled flag is set: delegations are always traced."""
        return {"traceparent": f"00-{self.trace_id}-{self.span_id}-01"}


def new_trace() -> TraceContext:
    """The root of a new trace."""
    return TraceContext(secrets.token_hex(16), secrets.token_hex(8))
