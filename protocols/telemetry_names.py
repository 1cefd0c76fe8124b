"""Names of everything that is measured or traced, so that both sides of the queue write the same ones.

Every name stands here, with unit and meaning. GenAI and messaging names follow the OpenTelemetry semantic
conventions, those with `microturn.` are ours. What a user said is never in a name or an attribute listed here.
"""

from __future__ import annotations

from typing import Final

TICK_DURATION: Final = "microturn.tick.duration"
"""Histogram, seconds: how long one step took, model included."""
TICK_RUNTIME: Final = "microturn.tick.runtime"
"""Histogram, seconds: the runtime's own part of a step."""
TICK_LATENESS: Final = "microturn.tick.lateness"
"""Histogram, seconds: how long after it was due a step began."""
TICK_MISSED: Final = "microturn.tick.missed"
"""Counter, micro-turns without a step of their own; attribute `reason`."""

TURN_SPAN: Final = "invoke_agent interaction"
"""Span: from the user's words that caused a delegation to its hand-over; the root of the trace."""
SEND_SPAN: Final = "send delegation"
"""Span of kind producer: the hand-over of one task; its context travels in the package."""
PROCESS_SPAN: Final = "process delegation"
"""Span of kind consumer: one attempt at a task. Child of the hand-over and linked to it, so that operators see one
tree and tools that follow links see the queue."""
WEAVE_SPAN: Final = "weave"
"""Span: one piece of a result, from its arrival at the session to its end, whatever that was."""

CONVERSATION_ID: Final = "gen_ai.conversation.id"
"""Attribute: the session's id."""
AGENT_NAME: Final = "gen_ai.agent.name"
"""Attribute: the background agent's name."""
OPERATION_NAME: Final = "gen_ai.operation.name"
"""Attribute: what a GenAI span does, `invoke_agent` for one."""
TOOL_NAME: Final = "gen_ai.tool.name"
"""Attribute: a tool's name."""
MESSAGING_SYSTEM: Final = "messaging.system"
"""Attribute: `redis`; the conventions have no value of their own for Redis streams."""
MESSAGING_OPERATION: Final = "messaging.operation.name"
"""Attribute: `send` or `process`."""
MESSAGE_ID: Final = "messaging.message.id"
"""Attribute: the task's id."""
DELEGATION_STATE: Final = "microturn.delegation.state"
"""Attribute: the kind of a delegation's newest event, or how an attempt ended."""
DELEGATION_ATTEMPT: Final = "microturn.delegation.attempt"
"""Attribute: number of the attempt, from 1."""
EVENT_SEQ: Final = "microturn.delegation.event"
"""Attribute: number of the event that a piece of a result came with."""
WEAVE_OUTCOME: Final = "microturn.weave.outcome"
"""Attribute: the state of a piece's receipt: heard, interrupted, superseded, expired or dropped."""
WEAVE_WAIT: Final = "microturn.weave.wait"
"""Attribute, seconds: from the arrival of a piece to its weaving; absent where it was never woven."""
WORDS_HEARD: Final = "microturn.weave.words_heard"
"""Attribute: how far the user heard a piece, in words from its beginning."""
WORDS_TOTAL: Final = "microturn.weave.words_total"
"""Attribute: how many words a piece has."""
