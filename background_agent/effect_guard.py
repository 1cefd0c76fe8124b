"""Keeps what a tool returned from causing effects that the user never asked for.

Framing tells a model that results are data; a small model may obey them all the same. So, once a result has been
read, a tool with an effect is called only if the user's own words are about it: they share a word with its name
or with the line that describes it. This stops a page or a document from having a note deleted in the course of
another question. It does not stop a hostile result about the very thing that the user asked for.

Results of earlier tasks, which stand beside the task, count against a tool only if they speak of what it does: else,
after one look at the weather, no alarm could be set in words that are not the tool's own. So an earlier result that
asks for an effect in quite other words than the tool's is not stopped.

Not stated in any source; our choice.
"""

from __future__ import annotations

import re

from microturn.background_agent.chat_client import as_json
from microturn.protocols import ContextPackage, ToolSpec

_STEM_CHARS = 5
_MOST_CHARS = 20_000
"""Of what the user said, the newest so many are looked at: more is no speech, and would hold up the event loop."""
_WORD = re.compile(r"[a-z]{3,}")
_COMMON_WORDS = """
the and for with one all any user users from that this what when where which after some something about than into
you your mine can could would please are was how its out now
"""
_COMMON = frozenset(_COMMON_WORDS.split())


class EffectGuard:
    """What the user has asked for in one task, and whether a result was read."""

    def __init__(self, package: ContextPackage) -> None:
        said = [turn.text for turn in package.history if turn.speaker == "user"]
        self._wanted = _stems(" ".join([package.intent, *reversed(said)]))
        self._has_read = False
        self._read_before = _stems(as_json(package.tool_state)) if package.tool_state else set()

    def has_read(self, text: str) -> None:
        """Note that the model gets to see a result."""
        self._has_read = self._has_read or bool(text)

    def is_told(self, text: str) -> None:
        """Take in what the user has said since."""
        self._wanted |= _stems(text)

    def forbids(self, spec: ToolSpec) -> bool:
        """Whether the tool must not be called now."""
        if spec.side_effect == "none":
            return False
        summary = spec.description.split("\n\n")[0]
        does = _stems(f"{spec.name.replace('_', ' ')} {summary}")
        return bool(self._has_read or self._read_before & does) and not self._wanted & does


def _stems(text: str) -> set[str]:
    """The words that carry meaning, cut short so that their forms agree."""
    return {
        word[:_STEM_CHARS].rstrip("s")
        for word in _WORD.findall(text[:_MOST_CHARS].lower())
        if word not in _COMMON
    }
