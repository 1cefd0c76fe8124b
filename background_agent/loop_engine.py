"""The agent engine of this project: a loop of model steps and tool calls that speaks while it works.

A step asks the model for one decision. Calls are run and their results go into the next step; an answer is spoken
sentence by sentence while it is being written. The loop is bounded in steps, time and tokens; a model that writes
nonsense is told once, one that repeats itself is made to answer. Knows nothing of queues and of the beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, assert_never

import anyio
import platformdirs
from pydantic import JsonValue

from microturn.background_agent.chat_client import ChatAnswer, ChatClient, as_json
from microturn.background_agent.dialect import Dialect, dialect_for
from microturn.background_agent.effect_guard import EffectGuard
from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.framing import disarmed
from microturn.background_agent.heard import heard_note
from microturn.background_agent.journal import Journal
from microturn.background_agent.narrator import Narrator
from microturn.background_agent.prefix_cache import PrefixCache
from microturn.background_agent.profile import ModelProfile
from microturn.background_agent.prompt import task_text
from microturn.background_agent.tool_runner import ToolRunner
from microturn.background_agent.transcript import (
    Call,
    Calls,
    Decision,
    Entry,
    Final,
    Malformed,
    Note,
    Said,
    Task,
)
from microturn.protocols import ContextPackage, ToolSpec
from microturn.tools import ToolRegistry

COULD_NOT = "I'm sorry, I couldn't work that out."
"""Said when a run ends without an answer."""
_UPDATE_LIMIT_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Where a run ends at the latest."""

    steps: int = 8
    """Decisions of the model; the last one must be an answer."""
    tokens: int = 4_000
    """Tokens that the model writes in all steps."""
    reserve_share: float = 0.25
    """Of the time left at the start, what is kept for the answer: after the rest, no more tools."""


class LoopEngine:
    """An `AgentEngine` on one model. Runs many tasks at once; owns its client."""

    def __init__(
        self,
        client: ChatClient,
        profile: ModelProfile,
        *,
        data_dir: Path | None = None,
        limits: RunLimits | None = None,
        prefix_cache: PrefixCache | None = None,
    ) -> None:
        self.client = client
        self.profile = profile
        self.limits = limits or RunLimits()
        self.data_dir = data_dir or Path(platformdirs.user_data_dir("microturn"))
        self._prefix_cache = prefix_cache
        self._dialects: dict[str, Dialect] = {}

    async def __aenter__(self) -> Self:
        """Use as a context manager to close the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.client.aclose()

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """Do the task; the last event is `final` or `failed`.

        Raises:
            ModelError: the model server failed; what it had said was emitted.
            ModelRequestError: the model server refused the request.
        """
        await _Run(self, package, tools, emit, control).go()

    async def warm_up(self, tools: ToolRegistry) -> ChatAnswer:
        """Let the server read the fixed prefix, so that the first task need not wait for it.

        Takes as long as the prefix takes to be read, some 40 s for the local model on one core, and milliseconds
        where its state was kept from an earlier start. Returns the answer, whose counts say what was read.

        Raises:
            ModelError: the model server failed.
        """
        request = self.dialect(tools.specs()).request([Task("Task: say hello")], final_only=True)
        prefix = as_json([dict(message) for message in request.messages])
        restored = self._prefix_cache is not None and await self._prefix_cache.restore(prefix)
        answer = ChatAnswer()
        async with aclosing(self.client.stream(request, answer)) as pieces:
            async for _ in pieces:
                pass
        if self._prefix_cache is not None and not restored:
            await self._prefix_cache.save(prefix)
        return answer

    def dialect(self, specs: Sequence[ToolSpec]) -> Dialect:
        """The dialect for these tools; made once per set, because its prefix must stay the same bytes."""
        key = as_json([spec.model_dump(mode="json") for spec in specs])
        if key not in self._dialects:
            self._dialects.clear()  # One set at a time: a server keeps one prefix ready.
            self._dialects[key] = dialect_for(self.profile, specs)
        return self._dialects[key]


class _Run:
    """One run at one task."""

    def __init__(
        self, engine: LoopEngine, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control
    ) -> None:
        self._engine = engine
        self._control = control
        self._dialect = engine.dialect(tools.specs())
        journal = Journal.read(control.emitted)
        self._narrator = Narrator(package.task_id, emit, control)
        self._guard = EffectGuard(package)
        self._runner = ToolRunner(
            package,
            tools,
            emit,
            narrator=self._narrator,
            guard=self._guard,
            data_dir=engine.data_dir,
            journal=journal,
            load=control.load,
        )
        self._entries: list[Entry] = [Task(task_text(package, engine.profile.context_chars))]
        self._called = {_key(outcome.call) for outcome in journal.finished}
        self._next_call = journal.next_index
        self._faults = 0
        self._must_answer = False
        self._started_s = anyio.current_time()
        self._usage = ChatAnswer()

    async def go(self) -> None:
        """Step until there is an answer or a limit is met."""
        limits = self._engine.limits
        await self._resume()
        for step in range(limits.steps):
            self._take_news()
            final_only = self._must_answer or step == limits.steps - 1 or self._is_late()
            decision = await self._ask(final_only=final_only)
            if isinstance(decision, Final) and not self._control.has_news:
                await self._narrator.final(decision.text, self._detail(step + 1))
                return
            await self._act(decision)
            if self._faults > 1:
                break
        await self._narrator.fail(COULD_NOT, self._detail(limits.steps) | {"reason": "no_answer"})

    async def _resume(self) -> None:
        """Take up what earlier runs have called and said, and what the user has said to it."""
        earlier = self._control.updates[: self._control.revision]
        for outcome in await self._runner.resume():
            self._called.add(_key(outcome.call))
            self._entries += [Calls((outcome.call,)), outcome]
        self._note_heard()
        for text in earlier:
            self._note_update(text)

    async def _act(self, decision: Decision) -> None:
        """Do what a decision says, short of ending."""
        match decision:
            case Calls():
                await self._run_calls(decision)
            case Said(text) | Final(text):
                await self._narrator.end_remark()
                if text:
                    self._entries.append(Said(text))
            case Malformed(reason):
                self._faults += 1
                self._entries.append(Note(reason))
            case _:
                assert_never(decision)

    async def _run_calls(self, decision: Calls) -> None:
        """Run the calls that are new; one that was made before is answered with a hint to use what it gave."""
        await self._narrator.end_remark()
        new = tuple(call for call in decision.calls if _key(call) not in self._called)
        self._next_call += len(decision.calls)
        if not new:
            self._must_answer = True
            self._entries.append(Note("You have that result already. Answer with it now."))
            return
        self._entries.append(Calls(new, decision.said))
        for outcome, result in await self._runner.run(new):
            self._called.add(_key(outcome.call))
            self._entries.append(outcome)
            if result.is_error and result.retryable:
                self._must_answer = self._faults > 0
                self._faults = min(self._faults + 1, 1)

    async def _ask(self, *, final_only: bool) -> Decision:
        """Ask the model for its next decision, speaking what is meant for the user as it comes."""
        request = self._dialect.request(self._entries, final_only=final_only)
        answer = ChatAnswer()
        try:
            async with aclosing(self._engine.client.stream(request, answer)) as pieces:
                async for _ in pieces:
                    if self._control.has_news:
                        break
                    await self._narrator.hear(self._dialect.visible(answer.text))
        finally:
            self._count(answer)
        if self._control.has_news:
            self._narrator.drop_remark()
            return Said(self._dialect.visible(answer.text))
        decision = self._dialect.decide(answer, self._next_call)
        if final_only and isinstance(decision, Calls):
            return Malformed("No more tools. Answer now with what you have.")
        return decision

    def _count(self, answer: ChatAnswer) -> None:
        self._usage.prompt_tokens += answer.prompt_tokens
        self._usage.cached_tokens += answer.cached_tokens
        self._usage.completion_tokens += answer.completion_tokens

    def _take_news(self) -> None:
        """Tell the model what the user has said since; more may be called for after all."""
        news = self._control.news()
        if news:
            self._note_heard()
        for text in news:
            self._note_update(text)
            self._must_answer = False

    def _note_update(self, text: str) -> None:
        self._entries.append(Note(f"The user now says: {disarmed(text[:_UPDATE_LIMIT_CHARS])}"))
        self._guard.is_told(text)

    def _note_heard(self) -> None:
        """Tell the model how much of its words the user has heard."""
        if note := heard_note(self._narrator.words, self._engine.profile.context_chars):
            self._entries.append(Note(note))

    def _is_late(self) -> bool:
        limits = self._engine.limits
        spent_s = anyio.current_time() - self._started_s
        return (
            spent_s > self._control.remaining_s * (1 - limits.reserve_share)
            or self._usage.completion_tokens > limits.tokens
        )

    def _detail(self, steps: int) -> dict[str, JsonValue]:
        return {
            "model": self._engine.client.model,
            "steps": steps,
            "prompt_tokens": self._usage.prompt_tokens,
            "cached_tokens": self._usage.cached_tokens,
            "completion_tokens": self._usage.completion_tokens,
            "duration_s": round(anyio.current_time() - self._started_s, 3),
        }


def _key(call: Call) -> str:
    """Two calls with the same key are the same call."""
    return f"{call.tool} {as_json(call.arguments)}"
