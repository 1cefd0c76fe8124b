"""What becomes of a piece that was cut off: the rest of it, and how that is taken up again."""

from __future__ import annotations

from microturn.protocols import Speech
from microturn.runtime.weave_policy import Waiting

REST_PREFIX = "As I was saying: "
LOOK_BACK_WORDS = 7
"""Most words that are said again so that a rest begins at a clause. Our choice."""
REST_LIFE_MS = 45_000
"""How long a rest is offered before the conversation has moved on. Our choice."""


def rest_of(piece: Waiting, now_ms: float) -> Waiting:
    """Return what the user did not hear of a piece, from the beginning of the clause that was cut, for when all is
    idle; `piece.heard` says how far it was heard.
    """
    words = piece.speech.text.split()
    start = _clause_start(words, max(0, piece.heard - piece.from_word))
    dies_ms = round(now_ms) + REST_LIFE_MS
    expires_ms = piece.speech.expires_ms
    return Waiting(
        piece.task_id,
        piece.seq,
        Speech(
            text=" ".join(words[start:]),
            mode="idle",
            priority=piece.speech.priority,
            expires_ms=dies_ms if expires_ms is None else min(expires_ms, dies_ms),
        ),
        now_ms,
        from_word=piece.from_word + start,
        heard=piece.heard,
        is_rest=True,
        has_begun=piece.has_begun,
        cuts=piece.cuts,
    )


def _clause_start(words: list[str], heard: int) -> int:
    """Where to take up again: at the beginning of the clause that was cut, as people do, not in its middle."""
    earliest = max(0, heard - LOOK_BACK_WORDS)
    starts = (n for n in range(heard, earliest, -1) if words[n - 1][-1] in ",.;:!?")
    return next(starts, earliest)
