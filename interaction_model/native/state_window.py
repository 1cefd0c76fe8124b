"""How much of a conversation is kept: a window of tokens and its beginning, the same after ten minutes and ten hours.

Global layers see the newest `tokens` and the first `sinks` (StreamingLLM, Xiao et al., 2023); sliding layers have
their own window. All pages are set aside when a model is loaded, so that no step waits for memory.

There is no running summary. What could be told again could only be told as typed text or as a result, and the network
has learned to act on both: it would answer it. What left the window is kept in words by the session's history, which
goes with each task to the background.
"""

from __future__ import annotations

from dataclasses import dataclass

from microturn.interaction_model.native._errors import BadConfigError
from microturn.interaction_model.native.cache import CacheConfig
from microturn.interaction_model.native.config import BackboneConfig

STEP_TOKENS = 256
"""Tokens of a session that are computed at once; more that arrived together are computed one part after another, so
that a long gap in the beat needs no more memory. No bit depends on it."""


@dataclass(frozen=True, kw_only=True)
class StateWindow:
    """Memory for sessions that may go on without end."""

    sessions: int = 4
    """How many may be open at once, forks included."""
    tokens: int = 16_384
    """What global layers see: 11 minutes of silence, at 25 tokens a second; less with what is seen, read and said."""
    sinks: int = 16
    """Tokens at the beginning that they see besides: the first three micro-turns."""
    rewind_tokens: int = 256
    """How far a session can always go back; 10 s of silence."""
    page_tokens: int = 512

    def __post_init__(self) -> None:
        for field in ("sessions", "tokens", "page_tokens"):
            if getattr(self, field) < 1:
                got = getattr(self, field)
                raise BadConfigError("StateWindow", field, expected="1 or more", got=got)

    def cache(self, network: BackboneConfig) -> CacheConfig:
        """What a decoder of that network sets aside, so that no session ever lacks a page.

        Raises:
            BadConfigError: `page_tokens`, `sinks` or `rewind_tokens` make no sense.
        """
        return CacheConfig(
            page_tokens=self.page_tokens,
            global_pages=self.sessions * self._pages(self.tokens, self.sinks),
            sliding_pages=self.sessions * self._pages(network.window, 0),
            rewind_tokens=self.rewind_tokens,
            global_window=self.tokens,
            sinks=self.sinks,
        )

    def _pages(self, window: int, sinks: int) -> int:
        """Most pages of a session: the window, what may be gone back over and what is new may begin within a page."""
        newest = window + self.rewind_tokens + STEP_TOKENS
        return -(-newest // self.page_tokens) + 1 + -(-sinks // self.page_tokens)
