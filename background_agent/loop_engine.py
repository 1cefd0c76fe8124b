"""The agent engine of this project: a loop of model steps and tool calls that speaks while it works.

A step asks the model for one decision. Calls are run and their results go into the next step; an answer is spoken
sentence by sentence while it is being written. The loop is bounded in steps, time and tokens; a model that writes
nonsense is told once, one that repeats itself is made to answer. Knows nothing of queues and of the beat.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Final, Self, assert_never

import platformdirs

from microturn.background_agent.chat_client import ChatAnswer, ChatClient, ChatRequest, as_json
from microturn.background_agent.dialect import Dialect, dialect_for
from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.limits import RunLimits, TokenPrices
from microturn.background_agent.prefix_cache import PrefixCache
from microturn.background_agent.profile import ModelProfile
from microturn.background_agent.task_run import KNOWN_ALREADY, NO_MORE_TOOLS, TaskRun
from microturn.background_agent.tracing import ChatSpan, agent_span, chat_span
from microturn.background_agent.transcript import (
    Answer,
    Calls,
    Decision,
    Entry,
    Malformed,
    Note,
    Said,
    Task,
)
from microturn.protocols import ContextPackage, ToolSpec
from microturn.tools import ToolRegistry

_PROVIDER: Final = "openai"
"""Whose interface it is that the model is asked through, in the words of the GenAI conventions."""


class LoopEngine:
    """An `AgentEngine` on one model. Runs many tasks at once; owns its client."""

    def __init__(
        self,
        client: ChatClient,
        profile: ModelProfile,
        *,
        data_dir: Path | None = None,
        limits: RunLimits | None = None,
        prices: TokenPrices | None = None,
        prefix_cache: PrefixCache | None = None,
    ) -> None:
        """Put an engine on a client.

        Raises:
            ValueError: the cost is limited and `prices` does not say what anything costs.
        """
        self.client = client
        self.profile = profile
        self.limits = limits or RunLimits()
        if self.limits.cost_usd is not None and prices is None:
            raise ValueError("`limits` has a `cost_usd`, so `prices` must say what the model costs")
        self.prices = prices
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
        run = _Run(self, package, tools, emit, control)
        with agent_span(package, "loop"):
            await run.task_run.within_time(run.go)

    async def warm_up(self, tools: ToolRegistry) -> ChatAnswer:
        """Let the server read the fixed prefix, so that the first task need not wait for it.

        Takes as long as the prefix takes to be read, some 40 s for the local model on one core, and milliseconds
        where its state was kept from an earlier start. Returns the answer, whose counts say what was read.

        Raises:
            ModelError: the model server failed.
        """
        request = self.dialect(self.profile.offered(tools.specs())).request(
            [Task("Task: say hello")], final_only=True
        )
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
        self._dialect = engine.dialect(engine.profile.offered(tools.specs()))
        self.task_run = TaskRun(
            package,
            tools,
            emit,
            control,
            data_dir=engine.data_dir,
            limits=engine.limits,
            context_chars=engine.profile.context_chars,
        )
        self._entries: list[Entry] = [Task(self.task_run.task)]

    async def go(self) -> None:
        """Step until there is an answer or a limit is met."""
        run, model = self.task_run, self._engine.client.model
        for outcome in await run.resume():
            self._entries += [Calls((outcome.call,)), outcome]
        self._entries += map(Note, run.earlier_notes())
        while not run.is_over:
            self._entries += map(Note, run.news())
            decision = await self._ask(final_only=run.must_answer)
            if isinstance(decision, Answer) and not run.has_news:
                await run.narrator.final(decision.text, run.spending.detail(model), is_cut=decision.is_cut)
                return
            await self._act(decision)
        await run.give_up(model)

    async def _act(self, decision: Decision) -> None:
        """Do what a decision says, short of ending."""
        match decision:
            case Calls():
                await self._run_calls(decision)
            case Said(text) | Answer(text):
                await self.task_run.narrator.end_remark()
                if text:
                    self._entries.append(Said(text))
            case Malformed(reason):
                self.task_run.note_fault()
                self._entries.append(Note(reason))
            case _:
                assert_never(decision)

    async def _run_calls(self, decision: Calls) -> None:
        """Run the calls; where none is new the model is told to use what it has."""
        outcomes = await self.task_run.run_calls(decision.calls)
        if not outcomes:
            self._entries.append(Note(KNOWN_ALREADY))
            return
        self._entries.append(Calls(tuple(outcome.call for outcome in outcomes), decision.said))
        self._entries += outcomes

    async def _ask(self, *, final_only: bool) -> Decision:
        """Ask the model for its next decision, speaking what is meant for the user as it comes."""
        run, client = self.task_run, self._engine.client
        request = self._dialect.request(
            self._entries, final_only=final_only, most_tokens=run.spending.tokens_left
        )
        answer = ChatAnswer()
        with chat_span(client.model, _PROVIDER) as span:
            try:
                await run.until_corrected(functools.partial(self._listen, request, answer, span))
            finally:
                self._count(answer)
                span.input_tokens, span.output_tokens = answer.prompt_tokens, answer.completion_tokens
                span.cached_tokens, span.finish_reason = answer.cached_tokens, answer.finish_reason
        if run.has_news:
            run.narrator.drop_remark()
            return Said(self._dialect.visible(answer.text))
        decision = self._dialect.decide(answer, run.next_call)
        if final_only and isinstance(decision, Calls):
            return Malformed(NO_MORE_TOOLS)
        return decision

    async def _listen(self, request: ChatRequest, answer: ChatAnswer, span: ChatSpan) -> None:
        """Say what is meant for the user as it comes."""
        run, limit = self.task_run, self._engine.profile.answer_chars
        async with aclosing(self._engine.client.stream(request, answer)) as pieces:
            async for _ in pieces:
                span.chunk()
                if run.has_news:
                    break
                visible = self._dialect.visible(answer.text)
                await run.narrator.hear(visible[:limit])
                if len(visible) > limit:
                    answer.finish_reason = "length"
                    break

    def _count(self, answer: ChatAnswer) -> None:
        tokens = (answer.prompt_tokens, answer.cached_tokens, answer.written_tokens)
        prices = self._engine.prices
        self.task_run.spending.count(
            prompt_tokens=tokens[0],
            cached_tokens=tokens[1],
            completion_tokens=tokens[2],
            cost_usd=None if prices is None else prices.cost_usd(*tokens),
        )
