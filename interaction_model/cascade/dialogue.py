"""What the cascade does about what the user said: answer small things itself, hand over the rest.

One decision per turn, from its words alone, in a few milliseconds. What needs facts, tools or thought is delegated
and opened with a fitting short phrase; the background has the whole conversation and answers in its own time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, Protocol

from microturn.protocols import Action, Cancel, Delegate, Dismiss, Resume, Update

HOLD_MS = 8000
"""How long results are held back after the user asked for a moment. Our choice."""


class Routed(Protocol):
    """A router's judgement."""

    @property
    def intent(self) -> str:
        """One of the intents of `intents.json`."""


class Routes(Protocol):
    """Finds the intent of a text; `router.IntentRouter` is one."""

    def route(self, text: str) -> Routed:
        """Return the intent. A few milliseconds."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """What is done about one turn."""

    intent: str
    say: str = ""
    source: Literal["reply", "filler"] = "reply"
    actions: tuple[Action, ...] = ()
    hold_ms: int = 0
    """How long from now nothing else should be brought up."""
    takes_floor: bool = True
    """False for a backchannel: whoever was speaking goes on."""

    @property
    def is_request(self) -> bool:
        """Whether the background is asked for something new; a correction changes what it was asked for."""
        return any(isinstance(action, Delegate) for action in self.actions)


class Chooses(Protocol):
    """Knows short replies; `router.Replies` is one."""

    def choose(self, intent: str, number: int) -> str | None:
        """Return the reply to the `number`-th use of an intent."""


class Dialogue:
    """Decides for one session. Deterministic in its seed and what was said before."""

    def __init__(self, router: Routes, replies: Chooses, seed: int = 0) -> None:
        self._router = router
        self._replies = replies
        self._seed = seed
        self._uses: Counter[str] = Counter()

    def __deepcopy__(self, memo: dict[int, object]) -> Dialogue:
        """Copy what was used; the router and the replies are shared."""
        twin = Dialogue(self._router, self._replies, self._seed)
        twin._uses = Counter(self._uses)
        return twin

    def takes_floor(self, text: str) -> bool:
        """Whether words said over the assistant's speech mean that it should stop: anything but a backchannel."""
        return self._router.route(text).intent != "backchannel"

    def react(self, text: str, start_ms: int, end_ms: int, last_said: str = "") -> Reaction:
        """Decide about the words of one turn; the times are where they were said, in session time."""
        intent = self._router.route(text).intent
        match intent:
            case "backchannel":
                return Reaction(intent, takes_floor=False)
            case "stop":
                return Reaction(intent, self._reply(intent), actions=(Dismiss(),))
            case "wait":
                return Reaction(intent, self._reply(intent), hold_ms=HOLD_MS)
            case "resume":
                return Reaction(intent, actions=(Resume(),))
            case "repeat":
                return Reaction(intent, last_said or self._reply(intent))
            case "cancel_task":
                return Reaction(
                    intent, self._reply(intent), actions=(Cancel(None, "the user asked"), Dismiss())
                )
            case "correction":
                return Reaction(
                    intent, self._reply(intent), "filler", (Update(None, text, start_ms, end_ms),)
                )
            case "delegate":
                return Reaction(intent, self._reply(intent), "filler", (Delegate(text, start_ms, end_ms),))
            case _:
                return Reaction(intent, self._reply(intent))

    def complete(self, text: str, start_ms: int, end_ms: int) -> Reaction:
        """Hand over the completed words of a request whose first part was handed over too early."""
        action = Delegate(text, start_ms, end_ms, completes_last=True)
        return Reaction("delegate", self._reply("delegate"), "filler", (action,))

    def _reply(self, intent: str) -> str:
        """The next reply to an intent; empty where nothing is to be said."""
        self._uses[intent] += 1
        return self._replies.choose(intent, self._seed + self._uses[intent] - 1) or ""
