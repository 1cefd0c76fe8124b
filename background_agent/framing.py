"""Frames what a tool returned, so that a model can tell data from instructions.

The text of a web page or a document may try to close its frame or to pose as the user; nothing in it can, because
whatever looks like the frame is broken up.
"""

from __future__ import annotations

import re

from microturn.background_agent.transcript import Outcome
from microturn.tools.text import cap, clean

_FRAME_LIKE = re.compile(r"<(?=\s*/?\s*result\b)", re.IGNORECASE)
_CONTROL_LIKE = re.compile(r"<(?=\|)|\[(?=/?INST\])", re.IGNORECASE)
"""The marks by which chat templates tell roles apart."""
_NOT_IN_NAMES = re.compile(r"[^\w.-]")


def disarmed(text: str) -> str:
    """Text without control characters, and without the marks by which chat templates tell roles apart."""
    return _CONTROL_LIKE.sub("(", clean(text))


def frame_result(tool: str, text: str, limit_bytes: int) -> str:
    """The text of a tool's result with its provenance, at most about `limit_bytes` long."""
    body = disarmed(_FRAME_LIKE.sub("(", cap(text, limit_bytes).text))
    return f'<result tool="{_NOT_IN_NAMES.sub("", tool)[:64]}">\n{body}\n</result>'


def frame_outcome(outcome: Outcome, limit_bytes: int) -> str:
    """What one call gave, framed; after an error that can be mended, outside the frame, what to do."""
    framed = frame_result(outcome.call.tool, outcome.text, limit_bytes)
    if not outcome.is_error:
        return framed
    advice = "Correct the arguments and call it again." if outcome.retryable else "Do not repeat this call."
    return f"{framed}\nThat call failed. {advice}"
