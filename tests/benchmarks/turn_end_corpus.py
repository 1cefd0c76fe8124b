"""Spoken requests with thinking pauses, in many voices, with the times that a judge of turn ends is measured by.

The sentences stand in `turn_end/*.txt`; `|` marks where a speaker might stop to think. A sentence is rendered whole
and cut at the true word boundary, so that what stands before a pause has the melody of something unfinished. This
module knows nothing of how the sound is judged.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from scipy.signal import resample_poly
from turn_set import FOLDER as TURN_SET_FOLDER
from turn_set import load_turn_set, read_sound

from microturn.interaction_model.cascade.router import Exemplars
from microturn.interaction_model.cascade.voice import Voice
from microturn.interaction_model.cascade.voice_model import VoiceModel
from microturn.interaction_model.cascade.voice_style import VoiceStyle
from microturn.protocols import INPUT_RATE_HZ, Samples

Part = Literal["tuning", "held_out"]

SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS = 300, 1_000
"""Thinking pauses are drawn evenly between these."""
AFTER_MS = 1_600
"""Silence after the end of each clip."""
_WINDOW = INPUT_RATE_HZ // 100
_ROOM_DBFS = -60.0

STYLES: dict[Part, dict[str, VoiceStyle]] = {
    "tuning": {
        "plain": VoiceStyle(),
        "man": VoiceStyle(pitch=0.62, formant=0.88, pitch_range=1.3),
        "bright": VoiceStyle(pitch=1.25, formant=1.08, speed=1.1),
        "slow": VoiceStyle(pitch=0.9, formant=0.97, speed=0.85),
    },
    "held_out": {
        "deep": VoiceStyle(pitch=0.55, formant=0.84),
        "low": VoiceStyle(pitch=0.7, formant=0.9, speed=1.12),
        "child": VoiceStyle(pitch=1.4, formant=1.18),
        "breathy": VoiceStyle(pitch=0.85, formant=0.95, breath=0.7, speed=0.92),
    },
}
FLITE: dict[Part, tuple[str, ...]] = {"tuning": ("slt",), "held_out": ("rms", "awb", "kal16")}


@dataclass(frozen=True, slots=True)
class Clip:
    """One spoken sentence."""

    name: str
    source: str
    """Kind of voice: hibari, flite, kokoro or human."""
    audio: Samples
    """16 kHz, with room noise, beginning at a random phase of the beat."""
    pauses: tuple[tuple[int, int], ...]
    """Samples at which each pause inside the sentence begins and ends, measured by energy."""
    end: int
    """Sample at which speech ends, measured by energy."""


def random_for(name: str) -> np.random.Generator:
    """Return a generator that depends on a name alone."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def sentences(part: Part) -> list[str]:
    """Return the marked sentences of one part."""
    path = Path(__file__).with_name("turn_end") / f"{part}.txt"
    return path.read_text("utf-8").splitlines()


def exemplar_sentences() -> list[str]:
    """Return the examples of the router, for tuning only, two thirds of the longer ones with a pause at some word."""
    marked: list[str] = []
    for intent, examples in Exemplars.read().intents.items():
        for example in examples if intent not in ("backchannel", "stop") else ():
            random = random_for(example)
            words = example[0].upper() + example[1:] + ("?" if _ASKS.match(example) else ".")
            parts = words.split()
            if len(parts) > 3 and random.random() < 0.67:
                places = [i for i in range(1, len(parts)) if _GOES_ON.fullmatch(parts[i - 1])]
                if not places or random.random() < 0.3:
                    places = list(range(2, len(parts)))
                parts.insert(int(random.choice(places)), "|")
            marked.append(" ".join(parts))
    return marked


_ASKS = re.compile(
    r"(what|who|when|where|why|how|which|is|are|do|does|did|can|could|will|should|has)\b", re.IGNORECASE
)
_GOES_ON = re.compile(
    r"(the|an?|my|your|in|on|at|for|of|to|from|with|about|and|or|if|that|is|are|was|i|me|some|how|what|which|i'm)",
    re.IGNORECASE,
)
"""After these words a speaker who looks for the next one stops."""


def exemplar_clips(model: VoiceModel) -> Iterator[Clip]:
    """Yield the examples of the router, each in one of hibari's tuning voices."""
    voices = [(name, Voice(model, style=style)) for name, style in STYLES["tuning"].items()]
    for number, marked in enumerate(exemplar_sentences()):
        name, voice = voices[number % len(voices)]
        yield hibari_clip(f"exemplar-{number}-{name}", marked, voice)


def spoken_clips(part: Part, voices_each: int, model: VoiceModel, first: int = 0) -> Iterator[Clip]:
    """Yield the sentences of a part in some of its voices of hibari and, where it is installed, flite.

    Args:
        part: Which sentences and voices.
        voices_each: In how many of hibari's voices each sentence is said.
        model: The loaded voice.
        first: Number of the first sentence to say.
    """
    styles = list(STYLES[part].items())
    flite = FLITE[part] if shutil.which("flite") else ()
    voices = {name: Voice(model, style=style) for name, style in styles}
    for number, marked in list(enumerate(sentences(part)))[first:]:
        for turn in range(voices_each):
            name = styles[(number + turn) % len(styles)][0]
            yield hibari_clip(f"{part}-{number}-{name}", marked, voices[name])
        if flite:
            clip = flite_clip(f"{part}-{number}-flite", marked, flite[number % len(flite)])
            if clip is not None:
                yield clip


def hibari_clip(name: str, marked: str, voice: Voice) -> Clip:
    """Render a marked sentence and cut pauses into it at the exact word boundaries."""
    random = random_for(name)
    words = marked.split()
    text = " ".join(word for word in words if word != "|")
    rendering = voice.render(text)
    speech = np.asarray(resample_poly(rendering.audio, 2, 3), np.float32)
    pieces: list[Samples] = []
    begin = spoken = 0
    for word in words:
        if word != "|":
            spoken += 1
            continue
        boundary = (
            (rendering.words[spoken - 1].end_sample + rendering.words[spoken].start_sample) // 2 * 2 // 3
        )
        cut = _quietest(speech, boundary)
        pieces += [_faded(speech[begin:cut]), _pause(random)]
        begin = cut
    return _finished(name, "hibari", [*pieces, _faded(speech[begin:])], random)


def flite_clip(name: str, marked: str, voice: str) -> Clip | None:
    """Say a sentence with flite, a comma at each mark, and lengthen the silence there; None if it made none."""
    text = marked.replace(", |", " |").replace(" |", ",")
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(
            ["flite", "-voice", voice, "-t", text, "-o", file.name], check=True, capture_output=True
        )
        sound, rate = soundfile.read(file.name, dtype="float32")
    speech = np.asarray(resample_poly(sound, INPUT_RATE_HZ, rate), np.float32)
    silences = silent_spans(speech, shortest_ms=60)
    if len(silences) != marked.count("|"):
        return None
    random = random_for(name)
    pieces: list[Samples] = []
    begin = 0
    for start, end in silences:
        pieces += [speech[begin:start], _pause(random)]
        begin = end
    return _finished(name, "flite", [*pieces, speech[begin:]], random)


def human_clip(path: Path) -> Clip:
    """Take a recording of a reader, with its own pauses of 0.3 to 1 s."""
    sound, _ = soundfile.read(path, dtype="float32")
    return _finished(path.stem, "human", [np.asarray(sound, np.float32)], random_for(path.stem))


def silent_spans(speech: Samples, shortest_ms: int) -> list[tuple[int, int]]:
    """Return the silences inside speech: windows of 10 ms more than 35 dB below the loudest."""
    loud = _loud(speech)
    edges = np.flatnonzero(np.diff(loud))
    gaps = zip(loud[edges].tolist(), loud[edges + 1].tolist(), strict=True)
    return [
        ((before + 1) * _WINDOW, after * _WINDOW)
        for before, after in gaps
        if (after - before - 1) * 10 >= shortest_ms
    ]


def _loud(speech: Samples) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    windows = speech[: speech.size // _WINDOW * _WINDOW].reshape(-1, _WINDOW).astype(np.float64)
    level = np.sqrt(np.mean(windows**2, axis=1))
    return np.flatnonzero(level > level.max() * 10 ** (-35 / 20))


def _finished(name: str, source: str, pieces: Sequence[Samples], random: np.random.Generator) -> Clip:
    """Put room around the speech and measure it."""
    speech = np.concatenate(pieces)
    lead = np.zeros(int(random.integers(300, 500)) * INPUT_RATE_HZ // 1000, np.float32)
    after = np.zeros(AFTER_MS * INPUT_RATE_HZ // 1000, np.float32)
    quiet = np.concatenate((lead, speech * np.float32(0.25 / np.max(np.abs(speech))), after))
    noise = 10 ** (_ROOM_DBFS / 20) * random.standard_normal(quiet.size)
    loud = _loud(quiet)
    spans = tuple(silent_spans(quiet, shortest_ms=SHORTEST_PAUSE_MS - 20))
    clip = Clip(name, source, quiet + noise.astype(np.float32), spans, int(loud[-1] + 1) * _WINDOW)
    if source == "human":
        return replace(
            clip, pauses=tuple(p for p in spans if p[1] - p[0] <= LONGEST_PAUSE_MS * INPUT_RATE_HZ // 1000)
        )
    return clip


def _pause(random: np.random.Generator) -> Samples:
    length = random.integers(SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS) * INPUT_RATE_HZ // 1000
    return np.zeros(int(length), np.float32)


def _quietest(speech: Samples, near: int) -> int:
    """Return the quietest place within 40 ms."""
    first = max(near - 4 * _WINDOW, 0)
    power = np.convolve(speech[first : near + 4 * _WINDOW].astype(np.float64) ** 2, np.ones(_WINDOW), "valid")
    return first + int(np.argmin(power)) + _WINDOW // 2


def _faded(speech: Samples) -> Samples:
    """Return speech whose last 10 ms fade, as a cut must."""
    faded = speech.copy()
    length = min(_WINDOW, faded.size)
    faded[faded.size - length :] *= np.linspace(1, 0, length, dtype=np.float32)
    return faded


def turn_set_clips() -> Iterator[Clip]:
    """Yield the labelled requests in Kokoro's voices, each beginning at another phase of the beat."""
    for labelled in load_turn_set().of("turn"):
        random = random_for(labelled.id)
        shift = int(random.integers(0, 200))
        lead = 10 ** (_ROOM_DBFS / 20) * random.standard_normal(shift * INPUT_RATE_HZ // 1000)
        sound = np.concatenate((lead.astype(np.float32), read_sound(TURN_SET_FOLDER / labelled.file)))
        ms = INPUT_RATE_HZ // 1000
        pauses = tuple(((begin + shift) * ms, (end + shift) * ms) for begin, end in labelled.pauses)
        end = (labelled.speech_end_ms + shift) * ms
        yield Clip(labelled.id, "kokoro", sound[: end + AFTER_MS * ms], pauses, end)
