"""Where a run ends at the latest, and what one run has used so far.

Each limit has two marks. At the first one, a reserve before the end, a model may only answer; at the second the run
ends without an answer. Knows nothing of models, and asks no clock but that of the run.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from pydantic import JsonValue

from microturn.background_agent.work_clock import WorkClock

LimitName: TypeAlias = Literal["requests", "tokens", "cost_usd"]
_PER = 1_000_000
"""Prices are for so many tokens."""
CHARS_PER_TOKEN: Final = 16
"""An answer with more characters than this for each token it may have does not heed its limit. Our choice: ordinary
text has about four."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """Where a run ends at the latest.

    Raises:
        ValueError: a limit is not positive, or the reserve is no share.
    """

    requests: int = 8
    """Requests to the model; the last one must be answered without tools."""
    tool_calls: int = 16
    """Calls of tools; after them the model may only answer."""
    tokens: int = 16_000
    """Tokens that the model writes in all requests, its reasoning included."""
    seconds: float | None = None
    """Time that the run works, what it waits for its user left out; None leaves it to the deadline of the task."""
    cost_usd: float | None = None
    """What the requests cost together, in US dollars. Needs a model whose price is known."""
    reserve_share: float = 0.25
    """Of the time, tokens and money, what is kept for the answer: after the rest, no more tools. Our choice."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if name != "reserve_share" and value is not None and value <= 0:
                raise ValueError(f"`{name}` must be more than 0, got {value!r}")
        if not 0 <= self.reserve_share < 1:
            raise ValueError(
                f"`reserve_share` must be at least 0 and less than 1, got {self.reserve_share!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrices:
    """What a model costs, in US dollars for a million tokens."""

    input_usd: float
    output_usd: float
    cached_usd: float | None = None
    """For what the server had ready of the prompt; None where that is not cheaper."""

    def cost_usd(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """What a request costs; `cached_tokens` are part of `prompt_tokens`."""
        cached_usd = self.input_usd if self.cached_usd is None else self.cached_usd
        fresh = prompt_tokens - cached_tokens
        return (
            fresh * self.input_usd + cached_tokens * cached_usd + completion_tokens * self.output_usd
        ) / _PER


@dataclass(slots=True)
class Spending:
    """What one run has used of its limits. Begins to count time when it is made."""

    limits: RunLimits
    remaining_s: float
    """Time that the task had left when the run began."""
    requests: int = 0
    tool_calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    """None as long as no request with a known price was made."""
    clock: WorkClock = field(default_factory=WorkClock)

    def count(
        self,
        *,
        prompt_tokens: int = 0,
        cached_tokens: int = 0,
        completion_tokens: int = 0,
        cost_usd: float | None = None,
    ) -> None:
        """Count one request to the model."""
        self.requests += 1
        self.prompt_tokens += prompt_tokens
        self.cached_tokens += cached_tokens
        self.completion_tokens += completion_tokens
        if cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + cost_usd

    @property
    def tool_calls_left(self) -> int:
        """How many more calls of tools may be made."""
        return max(0, self.limits.tool_calls - self.tool_calls)

    @property
    def tokens_left(self) -> int:
        """How many more tokens the model may write."""
        return max(0, self.limits.tokens - self.completion_tokens)

    @property
    def must_answer(self) -> bool:
        """Whether the next request must be answered without tools, as the limits are near.

        The deadline of the task does not wait for the user, so what is waited leaves the run less time to work.
        """
        limits = self.limits
        share = 1 - limits.reserve_share
        seconds = self.remaining_s - self.clock.waited_s
        if limits.seconds is not None:
            seconds = min(limits.seconds, seconds)
        return (
            self.requests >= limits.requests - 1
            or not self.tool_calls_left
            or self.clock.worked_s > seconds * share
            or self.completion_tokens > limits.tokens * share
            or (limits.cost_usd is not None and (self.cost_usd or 0.0) > limits.cost_usd * share)
        )

    @property
    def met(self) -> LimitName | None:
        """The limit after which nothing more may be asked of the model; None where there is room.

        Time is not among them: a run that is out of it is cut off, see `TaskRun.within_time`.
        """
        if self.requests >= self.limits.requests:
            return "requests"
        if not self.tokens_left:
            return "tokens"
        if self.limits.cost_usd is not None and (self.cost_usd or 0.0) >= self.limits.cost_usd:
            return "cost_usd"
        return None

    def detail(self, model: str) -> dict[str, JsonValue]:
        """What operators are told of a run at its end."""
        detail: dict[str, JsonValue] = {
            "model": model,
            "steps": self.requests,
            "tool_calls": self.tool_calls,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "duration_s": round(self.clock.elapsed_s, 3),
        }
        if self.cost_usd is not None:
            detail["cost_usd"] = round(self.cost_usd, 6)
        return detail
