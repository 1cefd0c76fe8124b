"""What a user of an assistant hears: through the public interface, a real server and a real worker."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest

from microturn import Assistant, MicroturnError, Spoken, tool
from microturn.background_agent import (
    REMOTE,
    AgentEngine,
    ChatClient,
    ChatLimits,
    Control,
    Emit,
    LoopEngine,
    ReflexEngine,
)
from microturn.background_agent.scripted_model import CallTools, Fail, Line, Refuse, Say, scripted_model
from microturn.protocols import ContextPackage, Delegate, Speech, UserError
from microturn.runtime.audio_device import DeviceNames
from microturn.runtime.bus import EmbeddedServer
from microturn.runtime.events import Delegated, DelegationMoved
from microturn.runtime.testing import Answer, Listener, ScriptedModel
from microturn.runtime.weave_policy import Moment, NaturalPause, Waiting
from microturn.tools import AnyTool, ToolRegistry
from microturn.tools.testing import make_context

pytestmark = pytest.mark.redis

OpensEngine: TypeAlias = Callable[[ToolRegistry], AbstractAsyncContextManager[AgentEngine]]
LIMITS = ChatLimits(connect_s=0.5, first_byte_s=0.4, silence_s=0.4, retries=1, retry_wait_s=0.01)


def ask(text: str) -> Answer:
    """Delegate what ends in a question mark; say something to all else."""
    if text.endswith("?"):
        return Answer("One moment.", (Delegate(text, 0, 200),))
    return Answer("I see.")


def model_of(*script: Line, seen: list[str] | None = None) -> OpensEngine:
    """The engine that the assistant has by default, on a model server that plays a script."""

    @asynccontextmanager
    async def open_engine(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
        async with scripted_model(*script) as server:
            client = ChatClient(server.url, "scripted", limits=LIMITS)
            try:
                async with LoopEngine(client, REMOTE) as engine:
                    yield ReflexEngine(engine)
            finally:
                if seen is not None:
                    seen.extend(str(request) for request in server.requests)

    return open_engine


@asynccontextmanager
async def model_that_is_down(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
    async with LoopEngine(ChatClient("http://127.0.0.1:9/v1", "none", limits=LIMITS), REMOTE) as engine:
        yield ReflexEngine(engine)


Talk: TypeAlias = Callable[..., Listener]


@pytest.fixture
def talk(home: Path, redis_server: EmbeddedServer) -> Talk:
    """Types lines into an assistant on a virtual clock and returns what its user heard."""

    def run(*lines: str, engine: OpensEngine = model_that_is_down, tools: Sequence[AnyTool] = ()) -> Listener:
        listener = Listener()
        assistant = Assistant(
            tools,
            redis_url=redis_server.url,
            load_model=lambda: ScriptedModel(answer=ask),
            open_engine=engine,
        )
        typed = io.StringIO("\n".join(lines) + "\n")
        assistant.talk(typed=typed, fast=True, observers=[listener])
        return listener

    return run


@tool(phrases=["how many seats are left in {room}"])
async def seats(room: str) -> Spoken:
    """Say how many seats are left in a room.

    Args:
        room: the room's name.
    """
    return Spoken(text=f"{room}: 7", say=f"There are seven seats left in {room}.")


@tool
async def fragile() -> str:
    """Break."""
    raise RuntimeError("a secret that only the tool knew")


@tool(timeout_s=0.2)
async def endless() -> str:
    """Never return."""
    await anyio.sleep_forever()
    return ""


@tool
async def flood() -> str:
    """Return a hundred megabytes."""
    return "spam " * 20_000_000


def test_a_tool_of_ones_own_answers_by_its_phrase(talk: Talk) -> None:
    listener = talk("How many seats are left in the library?", tools=[seats])
    assert listener.heard == ["One moment.", "There are seven seats left in the library."]


def test_the_few_words_that_the_native_model_hands_over_are_answered_without_a_model(talk: Talk) -> None:
    listener = talk("weather london today?")
    assert listener.heard[-1] == "In the sample data, it is 14 degrees in London, with light drizzle."


def test_lines_that_come_at_once_are_answered_one_after_the_other(talk: Talk) -> None:
    listener = talk("hello", "How many seats are left in the attic?", "", "thanks", tools=[seats])
    assert listener.heard == [
        "I see.",
        "One moment.",
        "There are seven seats left in the attic.",
        "I see.",
    ]


def test_what_no_phrase_fits_is_answered_by_the_model_with_the_tool(talk: Talk) -> None:
    script = (CallTools((("seats", '{"room": "the hall"}'),)), Say("The hall has seven free seats."))
    listener = talk("Could I still sit in the hall?", tools=[seats], engine=model_of(*script))
    assert listener.heard[-1].endswith("The hall has seven free seats.")


@pytest.mark.parametrize(
    ("broken", "told"),
    [(fragile, "RuntimeError"), (endless, "0.2 s"), (flood, "left out")],
    ids=["raises", "hangs", "returns 100 MB"],
)
def test_a_tool_that_misbehaves_does_not_keep_the_user_from_an_answer(
    talk: Talk, broken: AnyTool, told: str
) -> None:
    seen: list[str] = []
    script = (CallTools(((broken.spec.name, "{}"),)), Say("That did not work, sorry."))
    listener = talk("Can you try it?", tools=[broken], engine=model_of(*script, seen=seen))
    assert listener.heard[-1] == "That did not work, sorry."
    assert told in seen[-1]
    assert len(seen[-1]) < 100_000
    assert "a secret" not in seen[-1]


def test_a_tool_that_is_unknown_is_told_to_the_model_and_the_user_is_answered(talk: Talk) -> None:
    seen: list[str] = []
    script = (CallTools((("teleport", "{}"),)), Say("I cannot do that."))
    listener = talk("Can you beam me up?", engine=model_of(*script, seen=seen))
    assert listener.heard[-1] == "I cannot do that."
    assert "teleport" in seen[-1]


@pytest.mark.parametrize(
    "engine",
    [
        model_that_is_down,
        model_of(Refuse(503), Refuse(503)),
        model_of(Refuse(401)),
        model_of(Fail("hang", sends_head=False), Fail("hang", sends_head=False)),
        model_of(Fail("hang", "It is"), Fail("hang", "It is")),
        model_of(Fail("cut", "It is"), Fail("cut", "It is")),
        model_of(Fail("end", "It is"), Fail("end", "It is")),
        model_of(Fail("error", "It is"), Fail("error", "It is")),
    ],
    ids=["down", "busy", "refused", "silent", "stuck", "cut off", "ended early", "out of memory"],
)
def test_a_user_hears_a_sentence_when_the_model_fails(talk: Talk, engine: OpensEngine) -> None:
    listener = talk("Why is the sky blue?", engine=engine)
    assert len(listener.heard) >= 2
    apology = listener.heard[-1]
    assert len(apology.split()) >= 4
    assert not any(word in apology for word in ("Error", "http", "503", "401"))
    (task,) = listener.seen(Delegated)
    assert [e.event.kind for e in listener.seen(DelegationMoved)][-1] == "failed"
    assert task.intent == "Why is the sky blue?"


def test_the_conversation_goes_on_after_a_failure(talk: Talk) -> None:
    listener = talk("Why is the sky blue?", "How many seats are left in here?", tools=[seats])
    assert listener.heard[-1] == "There are seven seats left in here."


def test_a_background_that_cannot_start_is_an_error_and_not_a_silent_assistant(
    home: Path, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROTURN_MODEL_URL", "http://127.0.0.1:9/v1")
    assistant = Assistant(redis_url=redis_server.url, load_model=ScriptedModel)
    with pytest.raises(UserError, match="MICROTURN_MODEL is not: set it"):
        assistant.talk(typed=io.StringIO("hello\n"), fast=True)


def test_a_machine_without_a_microphone_is_told_what_works_instead(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microturn.runtime.conversation.device_names", lambda: DeviceNames((), ("headset",)))
    with pytest.raises(MicroturnError, match="no microphone; connect a headset, or use `--input FILE`"):
        Assistant().talk()


def test_a_recording_is_never_overwritten_by_its_own_conversation(home: Path) -> None:
    recording = Path(__file__).parents[2] / "examples/conversation/question.flac"
    with pytest.raises(UserError, match="names of their own"):
        Assistant().talk(recording, recording)


def test_weights_that_are_missing_are_all_named_with_the_one_command_that_gets_them(
    home: Path, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROTURN_CACHE", str(home / "nothing"))
    with pytest.raises(MicroturnError, match=r"silero-vad, .*minilm.* `microturn weights fetch speech`"):
        Assistant(redis_url=redis_server.url).talk(typed=io.StringIO("hello\n"))


def test_weights_of_another_version_are_refused_by_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = home / "other.onnx"
    other.write_bytes(b"not the pinned bytes")
    monkeypatch.setenv("MICROTURN_WEIGHTS_SILERO_VAD", str(other))
    with pytest.raises(MicroturnError, match="silero-vad"):
        Assistant().talk(typed=io.StringIO("hello\n"))


def test_a_policy_of_ones_own_decides_when_results_are_said(home: Path, redis_server: EmbeddedServer) -> None:
    chosen: list[str] = []

    class Noting(NaturalPause):
        def choose(self, waiting: Sequence[Waiting], moment: Moment) -> list[Waiting]:
            now = super().choose(waiting, moment)
            chosen.extend(piece.speech.text for piece in now)
            return now

    listener = Listener()
    assistant = Assistant(
        [seats],
        redis_url=redis_server.url,
        policy=Noting(),
        load_model=lambda: ScriptedModel(answer=ask),
        open_engine=model_that_is_down,
    )
    assistant.talk(
        typed=io.StringIO("How many seats are left in the loft?\n"),
        fast=True,
        observers=[listener],
        session_id="loft",
    )
    assert chosen == ["There are seven seats left in the loft."]
    assert listener.heard[-1] == chosen[0]


def test_an_assistant_that_talks_again_has_the_tools_of_mcp_servers_again(
    home: Path, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    crude = Path(__file__).parents[1] / "tools/mcp/crude_server.py"
    servers = {how: {"command": sys.executable, "args": [str(crude), how]} for how in ("fine", "exits")}
    (home / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    monkeypatch.setenv("MICROTURN_MCP", str(home / "mcp.json"))

    class Caller:
        async def run(
            self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control
        ) -> None:
            result = await tools.call("fine__only", {}, make_context())
            said = f"It is {result.text}, without {len(tools.broken)}."
            await emit("final", speech=Speech(text=said), text=said)

    @asynccontextmanager
    async def caller(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
        yield Caller()

    assistant = Assistant(
        [seats],
        redis_url=redis_server.url,
        load_model=lambda: ScriptedModel(answer=ask),
        open_engine=caller,
    )
    before = (assistant.tools.specs(), dict(assistant.tools.broken))
    for _ in range(2):
        listener = Listener()
        assistant.talk(typed=io.StringIO("Is it done?\n"), fast=True, observers=[listener])
        assert listener.heard[-1] == "It is done, without 1."
        assert (assistant.tools.specs(), assistant.tools.broken) == before
