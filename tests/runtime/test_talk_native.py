"""Talking with the native model: from the command line, with its own weights or those of a folder, and with a camera."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

pytest.importorskip("torch", reason="the native model needs the extra [native]")

from microturn.interaction_model.cascade.recognizer import MoonshineRecognizer
from microturn.interaction_model.native import loader
from microturn.interaction_model.native.checkpoint import NETWORK_FILE, save
from microturn.interaction_model.native.emission import Emission
from microturn.interaction_model.native.pace import OwnWordMs
from microturn.interaction_model.native.script import Passage, Script, Taken
from microturn.interaction_model.native.vocabulary import Token, written_words
from microturn.interaction_model.native.voice_file import MOUTH_FILE, save_mouth
from microturn.interaction_model.training.audio_rate import at_input_rate
from microturn.interaction_model.training.mouth_exam import edits
from microturn.kernels import NativeExtraMissingError
from microturn.protocols import INPUT_RATE_HZ, UserError
from microturn.runtime import interaction_models
from microturn.runtime.assistant import Assistant
from microturn.runtime.bus import EmbeddedServer
from microturn.runtime.clock import VirtualClock
from microturn.runtime.commands.options import split_models
from microturn.runtime.events import Delegated, ReceiptIssued, SpeechBegan, SpeechEnded
from microturn.runtime.host import Host
from microturn.runtime.ingress import Ingress
from microturn.runtime.interaction_models import choose_interaction_model
from microturn.runtime.session import Session
from microturn.runtime.testing import Listener, ScriptedBackground
from tests.interaction_model.native.small_models import (
    ScriptedEmitter,
    hear,
    picture,
    say,
    small_model,
    small_mouth,
    small_network,
)
from tests.runtime.conftest import Run
from tests.runtime.test_assistant import model_that_is_down
from tests.runtime.test_cli import assert_clear, noise, write

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

DEMONSTRATION = Path(__file__).parents[2] / "examples/conversation/native.flac"

PAUSE_SAMPLES = INPUT_RATE_HZ // 5
EDGE = INPUT_RATE_HZ // 10
SPELLINGS = {"ok": "okay", "good-bye": "goodbye"}
"""How the recogniser spells what it has understood."""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small model that has learned nothing."""
    folder = tmp_path / "weights"
    save(small_network(), folder / NETWORK_FILE)
    save_mouth(small_mouth(), folder / MOUTH_FILE)
    return folder


def test_a_recording_is_played_to_a_model_from_a_folder(
    run: Run, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Path
) -> None:
    # What has learned nothing is never done talking.
    monkeypatch.setattr("microturn.runtime.conversation.LINGER_S", 1.0)
    recording, both = write(tmp_path / "person.wav", noise(2.0)), tmp_path / "both.wav"
    done = run(
        *("talk", "--model", "native", "--weights", weights, "--input", recording, "--output", both),
        *("--fast", "--no-worker", "--redis", redis_server.url),
    )
    assert (done.code, done.err) == (0, "")
    told = re.search(r"length +([\d.]+) s.*micro-turns +(\d+) steps, 0 missed", done.out, re.DOTALL)
    assert told is not None
    assert 10 <= int(told[2]) == round(float(told[1]) * 5)
    sound, _ = soundfile.read(both)
    assert sound.shape[1] == 2
    assert np.abs(sound[: 2 * 16_000, 0]).max() > 0.05
    said = re.findall(r"assistant.*?: (.+)", done.out)
    assert bool(said) == bool(np.abs(sound[:, 1]).max() > 0)


def test_a_folder_without_weights_is_told_before_anything_starts(run: Run, tmp_path: Path) -> None:
    done = run("talk", "--model", "native", "--weights", tmp_path, "--input", DEMONSTRATION)
    assert_clear(done, NETWORK_FILE, "no file there")


def test_a_version_without_weights_says_how_to_talk_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loader, "SHIPPED", tmp_path)
    done = run("talk", "--model", "native", "--input", DEMONSTRATION)
    assert_clear(done, "--weights FOLDER")


def test_a_missing_package_is_told_with_the_extra_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise NativeExtraMissingError("torch")

    monkeypatch.setattr(interaction_models, "_native_loader", fail)
    done = run("talk", "--model", "native", "--input", DEMONSTRATION)
    assert_clear(done, "pip install 'microturn[native]'")


def test_the_cascade_takes_no_folder_of_weights(run: Run, tmp_path: Path) -> None:
    done = run("talk", "--weights", tmp_path, "--input", DEMONSTRATION)
    assert_clear(done, "`--model native`")


def test_two_interaction_models_at_once_are_a_usage_error(run: Run) -> None:
    done = run("talk", "--model", "native", "--model", "cascade", "--input", DEMONSTRATION)
    assert done.code == 2
    assert "more than one" in done.err


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ((), ("cascade", None)),
        (("native",), ("native", None)),
        (("llama",), ("cascade", "llama")),
        (("llama", "native"), ("native", "llama")),
    ],
)
def test_one_option_names_what_speaks_and_what_reasons(
    named: tuple[str, ...], expected: tuple[str, str | None]
) -> None:
    assert split_models(named) == expected
    with pytest.raises(typer.BadParameter, match="more than one"):
        split_models((*named, "one", "two"))


def test_an_unknown_interaction_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="cascade, native"):
        choose_interaction_model("llama")


def test_what_it_hands_over_is_worked_on_and_said_in_its_own_words(
    home: Path, redis_server: EmbeddedServer, tmp_path: Path
) -> None:
    script = {
        3: [Token.DELEGATE, *hear("weather", "london", "today"), Token.END_DELEGATE],
        24: say("it", "is", "fourteen", "degrees", "in", "london"),
    }
    model, listener = small_model(), Listener()
    model._emitter = ScriptedEmitter(model, script)
    assistant = Assistant(
        redis_url=redis_server.url, load_model=lambda: model, open_engine=model_that_is_down
    )
    recording = write(tmp_path / "person.wav", noise(7.0, level=0.01))
    assistant.talk(recording, fast=True, observers=[listener])
    assert [event.intent for event in listener.seen(Delegated)] == ["weather london today"]
    (began,) = listener.seen(SpeechBegan)
    assert (began.text, began.source) == (
        "In the sample data, it is 14 degrees in London, with light drizzle.",
        "woven",
    )
    assert [event.words_heard for event in listener.seen(SpeechEnded)] == [len(began.text.split())]
    assert listener.seen(ReceiptIssued)[-1].receipt.state == "heard"


async def test_what_a_camera_shows_reaches_the_eyes_of_the_model() -> None:
    model, clock = small_model(), VirtualClock()
    host = Host(model, clock)
    sessions = [Session(name, Ingress(), ScriptedBackground()) for name in ("seeing", "blind")]
    for session in sessions:
        host.add(session)
    for number in range(2):
        assert host.see("seeing", picture(number, 120, 160).pixels)
        clock._now += 0.1
    await host.run(lambda tick: tick.index >= 0)
    lengths = {session.session_id: session.state.length for session in model._open}
    assert lengths["seeing"] == lengths["blind"] + 12


@pytest.mark.model
@pytest.mark.timeout(180)
def test_what_it_says_in_the_demonstration_is_understood(
    run: Run, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    after = Script.after

    def noted(self: Script, turn: int, emission: Emission, passage: Passage, own_word_ms: OwnWordMs) -> Taken:
        if turn == 0:  # what was said while the model was loaded is not heard
            said.clear()
        taken = after(self, turn, emission, passage, own_word_ms)
        said.extend(taken.words)
        return taken

    monkeypatch.setattr(Script, "after", noted)
    both = tmp_path / "both.wav"
    done = run(
        *("talk", "--model", "native", "--input", DEMONSTRATION, "--output", both),
        *("--fast", "--redis", redis_server.url),
    )
    assert done.code == 0
    heard = [SPELLINGS.get(word, word) for word in written_words(" ".join(understood(both)))]
    assert len(said) >= 10
    assert edits(said, heard) / len(said) <= 0.15, (said, heard)


def understood(recording: Path) -> list[str]:
    """What a recogniser hears on the assistant's side, one text for each stretch of speech."""
    sound, rate_hz = soundfile.read(recording, dtype="float32")
    side = at_input_rate(sound[:, 1], rate_hz)
    loud = np.flatnonzero(np.abs(side) > 0.01)
    gaps = np.flatnonzero(np.diff(loud) > PAUSE_SAMPLES)
    begins, ends = loud[np.r_[0, gaps + 1]], loud[np.r_[gaps, -1]]
    recognizer = MoonshineRecognizer.shipped()
    parts = [side[max(begin - EDGE, 0) : end + EDGE] for begin, end in zip(begins, ends, strict=True)]
    return [recognizer.transcribe(np.pad(part, EDGE)).text for part in parts]
