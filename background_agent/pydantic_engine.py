"""An agent engine on pydantic-ai: any model that it can ask, with the same rules as the loop of this project.

pydantic-ai asks the model, reads its stream and keeps the conversation; what the run may do, what is said and how
tools are run is `TaskRun`'s business. Tools are declared to pydantic-ai as run outside of it, and all calls of one
answer come here at once, so that there is one door to them. Thoughts of a reasoning model are never spoken.

A cancelled run hangs up on the server at once, but for Gemini, whose client lets go of a stream only some time later.

pydantic-ai's own instrumentation stays off, also where an application has turned it on for all agents: the spans here
have the same names, and none is recorded twice.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias

import platformdirs
import pydantic_ai
from pydantic_ai import Agent, AgentRun, CallToolsNode, ModelRequestNode, exceptions
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import DeferredToolResults
from pydantic_ai.usage import RequestUsage, UsageLimits
from pydantic_graph import End

from microturn.background_agent._errors import ModelBrokeOffError
from microturn.background_agent.dialect import EMPTY_REPLY, MAX_CALLS, read_call
from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.framing import frame_outcome
from microturn.background_agent.limits import CHARS_PER_TOKEN, RunLimits, TokenPrices
from microturn.background_agent.profile import REMOTE, ModelProfile
from microturn.background_agent.prompt import system_prompt
from microturn.background_agent.pydantic_answer import PydanticAnswer
from microturn.background_agent.pydantic_models import in_our_words
from microturn.background_agent.pydantic_tools import RETRIES, DeclaredTools, OneDoor
from microturn.background_agent.task_run import (
    KNOWN_ALREADY,
    NO_CALLS_LEFT,
    NO_MORE_TOOLS,
    TaskRun,
)
from microturn.background_agent.tracing import ChatSpan, agent_span, chat_span
from microturn.background_agent.transcript import Outcome
from microturn.protocols import ContextPackage, UserError
from microturn.tools import ToolRegistry

pydantic_ai.BANNER_ENABLED = False  # what a worker writes to its terminal is read by programs
_End: TypeAlias = Literal["answered", "corrected", "lost"]
"""How far an agent went: to an answer, to a correction from the user, or to no end."""
_GUESSED_CHARS = 4
"""Characters to a token, where an answer was left before its tokens were told. Our choice."""


class PydanticEngine:
    """An `AgentEngine` on one model of pydantic-ai. Runs many tasks at once."""

    def __init__(
        self,
        model: Model,
        *,
        profile: ModelProfile = REMOTE,
        data_dir: Path | None = None,
        limits: RunLimits | None = None,
        prices: TokenPrices | None = None,
    ) -> None:
        """Put an engine on a model.

        Args:
            model: as `pydantic_models.model_of` makes it, or any other of pydantic-ai.
            profile: how much the model can take; its dialect does not matter here.
            data_dir: where tools keep their files.
            limits: where a run ends.
            prices: what the model costs; without them, pydantic-ai's own price list is used.
        """
        self.model = model
        self.profile = profile
        self.limits = limits or RunLimits()
        self.prices = prices
        self.data_dir = data_dir or Path(platformdirs.user_data_dir("microturn"))
        self.agent: Agent[_Run, str] = Agent(
            model,
            deps_type=_Run,
            instructions=system_prompt((), REMOTE),
            capabilities=[OneDoor()],
            retries=RETRIES,
        )
        self.agent.instrument = False

    async def __aenter__(self) -> Self:
        """Open the model's client."""
        await self.model.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the model's client."""
        await self.model.__aexit__(kind, error, trace)

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """Do the task; the last event is `final` or `failed`.

        Raises:
            ModelError: the model failed; what it had said was emitted.
            ModelRequestError: the model's server refused the request.
            UserError: the cost is limited, and no price of the model is known.
        """
        run = _Run(self, package, tools, emit, control)
        with agent_span(package, "pydantic-ai"):
            await run.task_run.within_time(run.go)


class _Run:
    """One run at one task; what pydantic-ai hands to the capability and the toolset."""

    def __init__(
        self,
        engine: PydanticEngine,
        package: ContextPackage,
        tools: ToolRegistry,
        emit: Emit,
        control: Control,
    ) -> None:
        self._engine = engine
        self._toolset = DeclaredTools(engine.profile.offered(tools.specs()))
        self.task_run = TaskRun(
            package,
            tools,
            emit,
            control,
            data_dir=engine.data_dir,
            limits=engine.limits,
            context_chars=engine.profile.context_chars,
        )
        self._answer = PydanticAnswer()
        self._must_answer = False

    async def go(self) -> None:
        """Let the agent work until there is an answer or a limit is met."""
        run = self.task_run
        history = await self._history()
        notes = run.earlier_notes()
        prompt = "\n\n".join(notes if history else [run.task, *notes])
        end: _End = "corrected"
        while end == "corrected":
            try:
                async with self._engine.agent.iter(
                    prompt or None,
                    message_history=history or None,
                    deps=self,
                    toolsets=[self._toolset],
                    usage_limits=UsageLimits(request_limit=None),
                ) as steps:
                    end = await self._follow(steps)
            except exceptions.UnexpectedModelBehavior:
                end = "lost"
            if end != "answered":
                run.narrator.drop_remark()
            if end == "corrected":
                history, prompt = steps.all_messages(), "\n\n".join(run.news())
        if end == "lost":
            await run.give_up(self._engine.model.model_name)

    async def _history(self) -> list[ModelMessage]:
        """The task and the calls of earlier runs, as the model is shown them; empty where there were none."""
        outcomes = await self.task_run.resume()
        if not outcomes:
            return []
        messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart(self.task_run.task)])]
        for outcome in outcomes:
            call = outcome.call
            messages.append(ModelResponse(parts=[ToolCallPart(call.tool, call.arguments, call.call_id)]))
            messages.append(
                ModelRequest(parts=[ToolReturnPart(call.tool, self._framed(outcome), call.call_id)])
            )
        return messages

    async def _follow(self, steps: AgentRun[_Run, str]) -> _End:
        """Go through the agent's steps as far as they lead."""
        run = self.task_run
        node = steps.next_node
        while not isinstance(node, End):
            if isinstance(node, ModelRequestNode):
                if run.is_over:
                    return "lost"
                self._tell(steps)
                await self._listen(node, steps)
                if self._answer.is_left:
                    return "corrected"
            elif isinstance(node, CallToolsNode):
                if await self._is_answered(node):
                    return "answered"
                if self._answer.says_nothing:
                    steps.enqueue(EMPTY_REPLY)
                # Now, and not with the next request: an agent with nothing left to be told would end here.
                self._tell_news(steps)
            node = await steps.next(node)
        return "lost"

    def _tell(self, steps: AgentRun[_Run, str]) -> None:
        """Put into the next request what the model does not know yet, and decide whether it may call tools."""
        self._tell_news(steps)
        was_told, self._must_answer = self._must_answer, self.task_run.must_answer
        if self._must_answer and not was_told:
            steps.enqueue(NO_MORE_TOOLS)

    def _tell_news(self, steps: AgentRun[_Run, str]) -> None:
        if news := self.task_run.news():
            steps.enqueue("\n\n".join(news))

    async def _is_answered(self, node: CallToolsNode[_Run, str]) -> bool:
        """Whether the answer that has come ends the task; then it has been sent."""
        run, answer = self.task_run, self._answer
        text = answer.visible.strip()
        if run.has_news:
            run.narrator.drop_remark()
        elif not node.model_response.tool_calls or answer.is_cut:
            if text:
                limit = self._engine.profile.answer_chars
                is_cut = answer.is_cut or node.model_response.finish_reason == "length"
                detail = run.spending.detail(self._engine.model.model_name)
                await run.narrator.final(text[:limit], detail, is_cut=is_cut)
                return True
            run.note_fault()
        return False

    async def _listen(self, node: ModelRequestNode[_Run, str], steps: AgentRun[_Run, str]) -> None:
        """Ask the model, and say what is meant for the user as it comes."""
        model = self._engine.model
        answer = self._answer = PydanticAnswer()
        with chat_span(model.model_name, model.system) as span:
            try:
                await self.task_run.until_corrected(functools.partial(self._hear, node, steps, span))
            except (exceptions.UnexpectedModelBehavior, exceptions.UserError):
                raise
            except Exception as error:  # each client has errors of its own
                raise in_our_words(error, model.model_name, answer.visible) from error
            finally:
                answer.is_left = self.task_run.has_news
                self._count(span)
        if self._is_price_missing and not answer.is_left:
            raise UserError(
                f"the agent on {model.model_name!r} has a limit `cost_usd`, and nobody knows what the model costs: give "
                "its `prices`, or leave the limit out"
            )
        if answer.is_broken_off:
            raise ModelBrokeOffError(
                f"{model.model_name!r} ended its answer without a finish reason", partial=answer.visible
            )

    async def _hear(
        self, node: ModelRequestNode[_Run, str], steps: AgentRun[_Run, str], span: ChatSpan
    ) -> None:
        async with node.stream(steps.ctx) as events:
            async for event in events:
                span.chunk()
                self._answer.take_in(event)
                if await self._is_to_leave():
                    await events.cancel()
                    break
            self._answer.response = events.response

    @property
    def _is_price_missing(self) -> bool:
        spending = self.task_run.spending
        return spending.limits.cost_usd is not None and spending.cost_usd is None

    async def _is_to_leave(self) -> bool:
        """Say what has come; whether the rest is not worth waiting for."""
        run, answer, profile = self.task_run, self._answer, self._engine.profile
        if run.has_news:
            return True
        await run.narrator.hear(answer.visible[: profile.answer_chars])
        answer.is_cut = (
            len(answer.visible) > profile.answer_chars
            or answer.received_chars > profile.step_tokens * CHARS_PER_TOKEN
        )
        return answer.is_cut

    def _count(self, span: ChatSpan) -> None:
        """Count the request, by what the model has told or else by a guess."""
        answer, prices = self._answer, self._engine.prices
        usage = answer.response.usage if answer.response is not None else RequestUsage()
        written = usage.output_tokens
        if answer.is_left or answer.is_cut:
            written = max(written, answer.received_chars // _GUESSED_CHARS)
        tokens = (usage.input_tokens, usage.cache_read_tokens, written)
        cost_usd = prices.cost_usd(*tokens) if prices is not None else usage.cost
        self.task_run.spending.count(
            prompt_tokens=tokens[0],
            cached_tokens=tokens[1],
            completion_tokens=tokens[2],
            cost_usd=None if cost_usd is None else float(cost_usd),
        )
        span.input_tokens, span.cached_tokens, span.output_tokens = tokens
        span.finish_reason = answer.response.finish_reason if answer.response is not None else None

    def settings(self) -> ModelSettings:
        """What the next request is held to."""
        profile, run = self._engine.profile, self.task_run
        return ModelSettings(
            max_tokens=max(1, min(profile.step_tokens, run.spending.tokens_left)),
            tool_choice="none" if self._must_answer else "auto",
            timeout=profile.limits.first_byte_s,
            max_retries=profile.limits.retries,
        )

    async def call(self, asked: Sequence[ToolCallPart]) -> DeferredToolResults:
        """Run the calls of one answer through the door to the tools; what each gave, framed as data."""
        run = self.task_run
        results = DeferredToolResults()
        if self._must_answer:
            run.note_fault()
            results.calls.update({call.tool_call_id: NO_MORE_TOOLS for call in asked})
            return results
        calls = [
            read_call(number, part.tool_name, _arguments(part))
            for number, part in enumerate(asked[:MAX_CALLS], start=run.next_call)
        ]
        told = {outcome.call.index: self._framed(outcome) for outcome in await run.run_calls(calls)}
        results.calls.update({call.tool_call_id: NO_CALLS_LEFT for call in asked[MAX_CALLS:]})
        for part, call in zip(asked, calls, strict=False):
            results.calls[part.tool_call_id] = told.get(call.index, KNOWN_ALREADY)
        return results

    def _framed(self, outcome: Outcome) -> str:
        return frame_outcome(outcome, self._engine.profile.result_bytes)


def _arguments(part: ToolCallPart) -> str:
    """The arguments as the model wrote them, right or wrong."""
    return part.args if isinstance(part.args, str) else part.args_as_json_str()
