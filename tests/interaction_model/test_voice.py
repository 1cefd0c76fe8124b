"""The voice on real weights: its words lie where it says that they do."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.signal import resample_poly

from microturn.interaction_model.cascade.recognizer import MoonshineRecognizer
from microturn.interaction_model.cascade.voice import (
    FADE_SAMPLES,
    PEAK,
    TARGET_RMS,
    Rendering,
    Voice,
    fade_out,
    joined,
)
from microturn.interaction_model.cascade.voice_model import VoiceModel
from microturn.interaction_model.cascade.voice_style import VoiceStyle
from microturn.protocols import Samples

pytestmark = pytest.mark.model

ODD_TEXTS = [
    "",
    "   ",
    "...",
    "- * -",
    "\U0001f600 \U0001f680",
    "Well, \U0001f600 yes!",
    "x" * 2_000,
    "word " * 400,
    "Dr. Smith paid $9.99 for 3 kg of rice on 3/4/2024.",
    "[a link](https://x.com/y) and `code`",
    "It is 7:30 pm now, and 23°C in Paris!\n\nIs that warm? I think so",
    "\u4ed6\u8bf4 hello",
    "the " * 3 + "a, " * 300,
]


def bare(text: str) -> list[str]:
    """Return the words of a text without case and signs."""
    return re.findall(r"[a-z0-9]+", text.lower())


def hear(recognizer: MoonshineRecognizer, audio: Samples) -> list[str]:
    """Return the words that are recognised in the voice's sound."""
    return bare(recognizer.transcribe(np.asarray(resample_poly(audio, 2, 3), np.float32)).text)


@pytest.mark.parametrize("text", ODD_TEXTS, ids=lambda text: ascii(text[:12]))
def test_every_text_gets_a_timing_for_each_of_its_words(voice: Voice, text: str) -> None:
    rendering = voice.render(text)
    assert [word.text for word in rendering.words] == text.split()
    positions = [at for word in rendering.words for at in (word.start_sample, word.end_sample)]
    assert positions == sorted(positions)
    assert not positions or 0 <= positions[0] <= positions[-1] <= rendering.audio.size
    assert np.all(np.isfinite(rendering.audio))
    assert rendering.audio.size == 0 or np.max(np.abs(rendering.audio)) <= PEAK + 1e-6


def test_what_cannot_be_said_is_silent(voice: Voice) -> None:
    for text in ODD_TEXTS[:5]:
        assert voice.render(text).audio.size == 0


def test_a_number_is_one_word(voice: Voice) -> None:
    words = voice.render("The answer is 816 today.").words
    assert words[3].text == "816"
    assert words[3].end_sample - words[3].start_sample > 20_000
    assert words[2].end_sample <= words[3].start_sample < words[4].start_sample


def test_sound_cut_after_a_word_holds_the_words_up_to_it(
    voice: Voice, recognizer: MoonshineRecognizer
) -> None:
    text = "I found three good restaurants close to your hotel in Paris this evening."
    rendering = voice.render(text)
    for count in (4, 5, 9, 11, 12):
        heard = hear(recognizer, fade_out(rendering.audio[: rendering.words[count - 1].end_sample]))
        assert heard[:count] == bare(text)[:count]
        assert len(heard) <= count + 1


def test_sound_from_a_word_on_begins_with_that_word(voice: Voice, recognizer: MoonshineRecognizer) -> None:
    rendering = voice.render("I found three good restaurants close to your hotel in Paris this evening.")
    tail = rendering.audio[rendering.words[5].start_sample :]
    assert hear(recognizer, np.pad(tail, (2_400, 0)))[:3] == ["close", "to", "your"]


def test_the_same_seed_gives_the_same_bits_with_and_without_the_cache(
    voice: Voice, voice_model: VoiceModel
) -> None:
    text = "Good morning. It is nine."
    first, again = voice.render(text), voice.render(text)
    fresh = Voice(voice_model).render(text)
    other = Voice(voice_model, seed=1).render(text)
    assert np.array_equal(first.audio, again.audio)
    assert np.array_equal(first.audio, fresh.audio)
    assert first.words == fresh.words
    assert not np.array_equal(first.audio, other.audio[: first.audio.size])


def test_sentences_stream_and_make_the_whole(voice: Voice) -> None:
    text = "Good morning. It is nine. Shall we begin?"
    parts = list(voice.stream(text))
    whole = voice.render(text)
    assert [part.text for part in parts] == ["Good morning.", "It is nine.", "Shall we begin?"]
    assert np.array_equal(np.concatenate([part.audio for part in parts]), whole.audio)
    assert joined(text, parts).words == whole.words


def test_the_reply_begins_at_once_and_sentences_are_equally_loud(voice: Voice) -> None:
    for text in ("Yes.", "No way!", "The weather in Lisbon is sunny and warm."):
        audio = voice.render(text).audio
        assert np.max(np.abs(audio[: 24 * 60])) > 0.005
        frames = audio[: audio.size // 480 * 480].reshape(-1, 480)
        power = np.mean(frames.astype(np.float64) ** 2, axis=1)
        level = np.sqrt(np.mean(power[power > power.max() * 0.01]))
        assert level == pytest.approx(TARGET_RMS, rel=0.25)


def test_words_ended_by_counts_whole_words() -> None:
    voiced = Rendering("a b", np.zeros(10, np.float32), ())
    assert voiced.words_ended_by(5) == 0


def test_words_are_counted_as_they_end(voice: Voice) -> None:
    rendering = voice.render("One more time.")
    ends = [word.end_sample for word in rendering.words]
    assert [rendering.words_ended_by(end) for end in (0, ends[0] - 1, ends[0], ends[2])] == [0, 0, 1, 3]


def test_a_cut_fades_and_leaves_the_rendering_alone(voice: Voice) -> None:
    rendering = voice.render("One more time.")
    piece = rendering.audio[:9_000]
    faded = fade_out(piece)
    assert faded[-1] == 0
    assert np.array_equal(faded[:-FADE_SAMPLES], piece[:-FADE_SAMPLES])
    assert fade_out(np.ones(3, np.float32))[-1] == 0
    assert fade_out(np.zeros(0, np.float32)).size == 0
    with pytest.raises(ValueError, match="read-only"):
        rendering.audio[0] = 1


def low_share(audio: Samples) -> float:
    """Return how much of the power lies between 80 and 150 Hz, where only a deep voice has its fundamental."""
    power = np.abs(np.fft.rfft(audio.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(audio.size, 1 / 24_000)
    return float(power[(hz > 80) & (hz < 150)].sum() / power.sum())


def test_a_style_is_another_speaker_who_says_the_same(
    voice: Voice, voice_model: VoiceModel, recognizer: MoonshineRecognizer
) -> None:
    text = "Could you remind me to call my mother tomorrow?"
    deep = Voice(voice_model, style=VoiceStyle(pitch=0.55, formant=0.84)).render(text)
    plain = voice.render(text)
    assert hear(recognizer, deep.audio) == bare(text)
    assert low_share(deep.audio) > 5 * low_share(plain.audio)
    fast = Voice(voice_model, style=VoiceStyle(speed=1.3)).render(text)
    assert fast.audio.size < 0.93 * plain.audio.size
