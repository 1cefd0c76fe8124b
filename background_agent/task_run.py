"""What every engine does alike in one run at one task, whatever it reasons with.

It takes up what earlier runs have left, runs calls through the one door to the tools, tells what the user has said
and heard since, keeps to the limits, and ends the task. An engine adds only how its model is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import anyio
from pydantic import JsonValue

from microturn.background_agent.chat_client import as_json
from microturn.background_agent.effect_guard import EffectGuard
from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.framing import disarmed
from microturn.background_agent.heard import heard_note
from microturn.background_agent.journal import Journal
from microturn.background_agent.limits import RunLimits, Spending
from microturn.background_agent.narrator import Narrator
from microturn.background_agent.prompt import task_text
from microturn.background_agent.tool_runner import ToolRunner
from microturn.background_agent.transcript import Call, Outcome
from microturn.protocols import ContextPackage
from microturn.tools import ToolRegistry

COULD_NOT: Final = "I'm sorry, I couldn't work that out."
"""Said when a run ends without an answer."""
OUT_OF_TIME: Final = "I'm sorry, I ran out of time for that."
"""Said when a run has used the time that it was given."""
KNOWN_ALREADY: Final = "You have that result already. Answer with it now."
NO_MORE_TOOLS: Final = "No more tools. Answer now with what you have."
NO_CALLS_LEFT: Final = "This was not called: no more calls are left. Answer now with what you have."
"""What a model is told in place of a result."""
_UPDATE_LIMIT_CHARS = 1_000


class TaskRun:
    """One run at one task. One task of the event loop owns it."""

    def __init__(
        self,
        package: ContextPackage,
        tools: ToolRegistry,
        emit: Emit,
        control: Control,
        *,
        data_dir: Path,
        limits: RunLimits,
        context_chars: int,
    ) -> None:
        self._control = control
        self._context_chars = context_chars
        self._package = package
        journal = Journal.read(control.emitted)
        self.narrator = Narrator(package.task_id, emit, control)
        self.spending = Spending(limits, control.remaining_s)
        self._guard = EffectGuard(package)
        self._runner = ToolRunner(
            package,
            tools,
            emit,
            narrator=self.narrator,
            guard=self._guard,
            data_dir=data_dir,
            journal=journal,
            control=control,
            clock=self.spending.clock,
        )
        self._called = {_key(outcome.call) for outcome in journal.finished}
        self.next_call = journal.next_index
        """Number of the next call; it grows with every call that a model asks for."""
        self._faults = 0
        self._has_to_answer = False

    @property
    def task(self) -> str:
        """The changing part of what a model is told: the time, what is known, the task."""
        return task_text(self._package, self._context_chars)

    @property
    def must_answer(self) -> bool:
        """Whether the next request must be answered without tools."""
        return self._has_to_answer or self.spending.must_answer

    @property
    def is_over(self) -> bool:
        """Whether nothing more may be asked: a limit is met, or the model does not find its way."""
        return self._faults > 1 or self.spending.met is not None

    async def within_time(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work of an engine, and end the task if the time for it runs out first."""
        with self.spending.clock.cut_off_after(self.spending.limits.seconds) as scope:
            await work()
        if scope.cancelled_caught:
            self.narrator.drop_remark()
            await self.narrator.fail(OUT_OF_TIME, {"reason": "seconds"})

    async def resume(self) -> list[Outcome]:
        """Make good what earlier runs left unfinished; return the outcomes that the model is shown."""
        outcomes = await self._runner.resume()
        self._called |= {_key(outcome.call) for outcome in outcomes}
        return outcomes

    def earlier_notes(self) -> list[str]:
        """What a model is told of earlier runs: what of their words was heard, and what the user has said since."""
        earlier = self._control.updates[: self._control.revision]
        return [*self._heard(), *map(self._update, earlier)]

    @property
    def has_news(self) -> bool:
        """Whether the user has corrected the task and the model does not know."""
        return self._control.has_news

    async def until_corrected(self, listening: Callable[[], Awaitable[None]]) -> None:
        """Listen to a model until it is done, or until the user corrects the task: then the listening is cancelled.

        A model that is silent, or thinks for long, is so left as soon as one that writes.
        """
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._cancel_at_news, group.cancel_scope)
            try:
                await listening()
            except Exception as error:  # noqa: BLE001  # raised below, where no group wraps it
                failure = error
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _cancel_at_news(self, scope: anyio.CancelScope) -> None:
        await self._control.until_news()
        scope.cancel()

    def news(self) -> list[str]:
        """Take in what the user has said since, as notes for the model; more may be called for after all."""
        news = self._control.news()
        if not news:
            return []
        self._has_to_answer = False
        return [*self._heard(), *map(self._update, news)]

    def _update(self, text: str) -> str:
        self._guard.is_told(text)
        return f"The user now says: {disarmed(text[:_UPDATE_LIMIT_CHARS])}"

    def _heard(self) -> list[str]:
        note = heard_note(self.narrator.words, self._context_chars)
        return [note] if note else []

    async def run_calls(self, calls: Sequence[Call]) -> list[Outcome]:
        """Run the calls that are new, and return their outcomes in order; one that was made before has none.

        Where none is new the model must answer next. Calls beyond the limit are not made, and their outcome says so.
        """
        await self.narrator.end_remark()
        self.next_call += len(calls)
        new = [call for call in calls if _key(call) not in self._called]
        if not new:
            self._has_to_answer = True
            return []
        room = self.spending.tool_calls_left
        self.spending.tool_calls += min(room, len(new))
        outcomes = []
        for outcome, result in await self._runner.run(new[:room]):
            self._called.add(_key(outcome.call))
            outcomes.append(outcome)
            if result.is_error and result.retryable:
                self._has_to_answer = self._faults > 0
                self._faults = min(self._faults + 1, 1)
        return [*outcomes, *(Outcome(call, NO_CALLS_LEFT, is_error=True) for call in new[room:])]

    def note_fault(self) -> None:
        """Note that the model wrote what is no decision; after the second time the run is over."""
        self._faults += 1

    async def give_up(self, model: str) -> None:
        """End the task without an answer."""
        detail: dict[str, JsonValue] = {"reason": "no_answer"}
        if (limit := self.spending.met) is not None:
            detail["limit"] = limit
        await self.narrator.fail(COULD_NOT, self.spending.detail(model) | detail)


def _key(call: Call) -> str:
    """Two calls with the same key are the same call."""
    return f"{call.tool} {as_json(call.arguments)}"
