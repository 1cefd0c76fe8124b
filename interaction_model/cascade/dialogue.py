"""What the cascade does about what the user said: answer small things itself, hand over the rest.

One decision per turn, from its words alone, in a few milliseconds. What needs facts, tools or thought is delegated
and opened with a fitting short phrase; the background has the whole conversation and answers in its own time.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal, Protocol

from microturn.protocols import Action, Answer, Cancel, Delegate, Dismiss, Resume, Update

HOLD_MS = 8000
"""How long results are held back after the user asked for a moment. Our choice."""
_NO_ANSWER = frozenset({"stop", "cancel_task", "wait", "repeat"})
"""Intents of what is no answer to a question, unless it begins with a yes or a no."""
_YES_OR_NO = re.compile(
    r"\W*(?:yes|yeah|yep|yup|no|nope|nah|not|ok|okay|sure|right|mm+-? ?hmm+|uh-? ?huh|please|do(?:n't|n\u2019t)?)\b",
    re.IGNORECASE,
)
_ASKS_FOR_MORE = re.compile(
    r"\W*(?:(?:um+|uh+|hey|oh|and|also|by the way)\b\W*)*"
    r"(?:what|who|whose|when|where|why|which|how|is|are|does|did|will|can you|could you|would you|tell me|show me|"
    r"set|remind me|look up|search|find|play|give me|explain|translate|convert|calculate|take a note)\b",
    re.IGNORECASE,
)
"""How a new request begins. An answer hardly ever does. Our choice."""
_CHANGES = re.compile(
    r"\b(?:actually|but|change|changed|instead|make it|mean|meant|not|rather|scratch|sorry|wait)\b",
    re.IGNORECASE,
)
"""How people say that something is to be otherwise; without it, "the blue one" is an answer. Our choice."""
_DEEP = re.compile(
    r"\b(?:think|reason|consider)\b(?: (?:about|again|and|it|long|more|over|really|that|this|through|very)){0,4} "
    r"(?:hard|harder|carefully|deeply|thoroughly)\b",
    re.IGNORECASE,
)
_FAST = re.compile(
    r"^\W*(?:please |can you |could you |just )*(?:very )?quick(?:ly| question)\b|"
    r"(?<!how )(?<!more )(?<!most )(?<!so )(?<!as )(?<!too )\bquickly\b(?= please)?(?: please)?\W*$",
    re.IGNORECASE,
)


class Routed(Protocol):
    """A router's judgement."""

    @property
    def intent(self) -> str:
        """One of the intents of `intents.json`."""

    @property
    def is_certain(self) -> bool:
        """False where the intent stands in for doubt."""


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
                action = Delegate(text, start_ms, end_ms, agent=agent_for(text))
                return Reaction(intent, self._reply(intent), "filler", (action,))
            case _:
                return Reaction(intent, self._reply(intent))

    def answer(self, item_id: str, text: str, start_ms: int, end_ms: int, last_said: str = "") -> Reaction:
        """Decide about the words of a turn while a question, `item_id`, waits for its answer.

        They are the answer, unless they stop it, ask for a moment or for the question once more, correct the task, or
        are plainly a new request.
        """
        routed = self._router.route(text)
        if not _YES_OR_NO.match(text):
            is_new = routed.intent == "delegate" and routed.is_certain and _ASKS_FOR_MORE.match(text)
            is_change = routed.intent == "correction" and routed.is_certain and _CHANGES.search(text)
            if routed.intent in _NO_ANSWER or is_new or is_change:
                return self.react(text, start_ms, end_ms, last_said)
        return Reaction("answer", actions=(Answer(item_id, text, start_ms, end_ms),))

    def complete(self, text: str, start_ms: int, end_ms: int) -> Reaction:
        """Hand over the completed words of a request whose first part was handed over too early."""
        action = Delegate(text, start_ms, end_ms, agent=agent_for(text), completes_last=True)
        return Reaction("delegate", self._reply("delegate"), "filler", (action,))

    def _reply(self, intent: str) -> str:
        """The next reply to an intent; empty where nothing is to be said."""
        self._uses[intent] += 1
        return self._replies.choose(intent, self._seed + self._uses[intent] - 1) or ""


def agent_for(text: str) -> str:
    """The agent that a request names by how it is to be done; where no such agent is kept, the default one does it."""
    if _DEEP.search(text):
        return "deep"
    return "fast" if _FAST.search(text) else "default"
