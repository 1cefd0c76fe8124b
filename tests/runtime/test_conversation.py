"""A conversation from beginning to end: when it ends, and what it leaves behind however it ends."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import anyio
import numpy as np
import pytest
import soundfile

from microturn.interaction_model import ModelSession
from microturn.protocols import Delegate, MicroTurnInput, MicroTurnOutput
from microturn.runtime import conversation
from microturn.runtime.bus import BusSettings, EmbeddedServer, UnknownSessionError
from microturn.runtime.conversation import Conversation, Setting
from microturn.runtime.events import Delegated, SpeechBegan
from microturn.runtime.hub import Hub, open_hub
from microturn.runtime.testing import Answer, Listener, ScriptedModel, UserLine

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


def ask(text: str) -> Answer:
    """Delegate what ends in a question mark; say something to all else."""
    if text.endswith("?"):
        return Answer("One moment.", (Delegate(text, 0, 200),))
    return Answer("I see what you mean, and so on.")


class BreakingModel(ScriptedModel):
    """A model that breaks in its twentieth step."""

    def step(self, inputs: Sequence[tuple[ModelSession, MicroTurnInput]]) -> list[MicroTurnOutput]:
        outputs = super().step(inputs)
        if outputs[0].index == 19:
            raise RuntimeError("broken")
        return outputs


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "you.wav"
    soundfile.write(path, np.full(2 * 16_000, 0.1, np.float32), 16_000)
    return path


async def hold(url: str, setting: Setting, model: ScriptedModel | None = None) -> Listener:
    """Hold a conversation without a worker and return what was heard in it."""
    listener = Listener()
    async with open_hub(BusSettings(url)) as hub:
        await Conversation(setting, [listener]).hold(model or ScriptedModel(answer=ask), hub)
    return listener


async def test_it_goes_on_after_a_recording_until_all_is_said(
    redis_server: EmbeddedServer, recording: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both.wav"
    model = ScriptedModel([UserLine(200, 1800, "listen")], ask)
    listener = await hold(redis_server.url, Setting(recording, both, fast=True), model)
    assert listener.heard == ["I see what you mean, and so on."]
    sound, rate_hz = soundfile.read(both)
    assert 4.2 <= len(sound) / rate_hz <= 6
    assert np.abs(sound[: 2 * rate_hz - 100, 0] - 0.1).max() < 0.02
    assert sound[2 * rate_hz :, 1].max() > 0.2


async def test_a_task_that_nobody_ends_does_not_keep_it_for_ever(
    redis_server: EmbeddedServer, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "LINGER_S", 1.0)
    model = ScriptedModel([UserLine(200, 1800, "what is it?")], ask)
    with anyio.fail_after(10):
        listener = await hold(redis_server.url, Setting(recording, fast=True), model)
    assert len(listener.seen(Delegated)) == 1


async def test_a_session_is_closed_and_its_open_tasks_are_cancelled(
    redis_server: EmbeddedServer, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "LINGER_S", 0.6)
    model = ScriptedModel([UserLine(200, 1800, "what is it?")], ask)
    async with open_hub(BusSettings(redis_server.url)) as hub:
        await Conversation(Setting(recording, fast=True)).hold(model, hub)
        assert not hub.is_busy
    assert all(session.closed for session in model.sessions.values())


async def test_a_model_that_breaks_leaves_a_valid_recording_and_a_timeline(
    redis_server: EmbeddedServer, tmp_path: Path
) -> None:
    long = tmp_path / "long.wav"
    soundfile.write(long, np.zeros(60 * 16_000, np.float32), 16_000)
    both, picture = tmp_path / "both.flac", tmp_path / "timeline.png"
    with pytest.raises(RuntimeError, match="broken"):
        await hold(redis_server.url, Setting(long, both, picture, fast=True), BreakingModel())
    assert soundfile.info(both).duration >= 3.8
    assert picture.read_bytes().startswith(b"\x89PNG")


async def test_what_never_began_draws_no_timeline(redis_server: EmbeddedServer, tmp_path: Path) -> None:
    picture = tmp_path / "timeline.png"
    setting = Setting(tmp_path / "gone.wav", timeline=picture, fast=True)
    with pytest.raises(Exception, match="no such file"):
        await hold(redis_server.url, setting)
    assert not picture.exists()


async def test_two_conversations_share_one_way_to_the_background(redis_server: EmbeddedServer) -> None:
    first, second = Listener(), Listener()
    async with open_hub(BusSettings(redis_server.url)) as hub, anyio.create_task_group() as tasks:
        for listener, words in ((first, "one\n"), (second, "two\n")):
            talk = Conversation(Setting(typed=io.StringIO(words), fast=True), [listener])
            tasks.start_soon(talk.hold, ScriptedModel(answer=lambda text: Answer(f"You said {text}.")), hub)
    assert [event.text for event in first.seen(SpeechBegan)] == ["You said one."]
    assert [event.text for event in second.seen(SpeechBegan)] == ["You said two."]


async def test_a_session_that_is_named_again_is_the_same_one(
    redis_server: EmbeddedServer, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "LINGER_S", 0.6)
    async with open_hub(BusSettings(redis_server.url)) as hub:
        for question in ("what is it?", "and what is that?"):
            model = ScriptedModel([UserLine(200, 1800, question)], ask)
            await Conversation(Setting(recording, fast=True, session_id="twice")).hold(model, hub)
        await anyio.sleep(0.2)
        ledger = await hub.ledger("twice")
    assert [(promise.intent, promise.state) for promise in ledger.promises] == [
        ("what is it?", "declined"),
        ("and what is that?", "declined"),
    ]
    assert ledger.epoch == 1


async def _is_taken(hub: Hub, session_id: str) -> bool:
    """Take a session over, as soon as it is known."""
    try:
        await hub.reopen(session_id)
    except UnknownSessionError:
        return False
    return True


async def test_a_conversation_that_another_process_takes_over_ends_and_says_so(
    redis_server: EmbeddedServer, tmp_path: Path
) -> None:
    settings = BusSettings(redis_server.url)
    long = tmp_path / "long.wav"
    soundfile.write(long, np.zeros(30 * 16_000, np.float32), 16_000)
    async with open_hub(settings) as here, open_hub(settings) as there:
        talk = Conversation(Setting(long, session_id="wanted"))
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                model = ScriptedModel([UserLine(0, 400, "what is it?")], ask)
                tasks.start_soon(talk.hold, model, here)
                while not here.is_busy:
                    await anyio.sleep(0.05)
                while not await _is_taken(there, "wanted"):
                    await anyio.sleep(0.05)
        assert talk.warnings == ["The conversation goes on in another process, which has taken it over."]
