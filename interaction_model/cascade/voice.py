"""The assistant's voice: a text becomes sound, and every word of it gets the samples where it begins and ends.

Sentence by sentence, equal for equal arguments. Knows nothing of who has the floor or what has been played.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from microturn.interaction_model.cascade.voice_model import MOST_PHONEMES, PhonemeGroup, VoiceModel
from microturn.interaction_model.cascade.voice_style import VoiceStyle
from microturn.interaction_model.cascade.word_alignment import align
from microturn.protocols import OUTPUT_RATE_HZ, Samples

TARGET_RMS = 0.1
"""Root mean square of the sounding parts of every sentence (-20 dBFS)."""
PEAK = 0.95
"""No sample is larger; a sentence that would be is made quieter as a whole."""
LEAD_SAMPLES = OUTPUT_RATE_HZ * 20 // 1000
"""Silence kept before the first sound: the voice's own lead of 0.3 s would only delay the reply."""
TAIL_SAMPLES = OUTPUT_RATE_HZ * 180 // 1000
"""Most silence kept after the last sound; it is the pause between sentences."""
FADE_SAMPLES = OUTPUT_RATE_HZ * 10 // 1000
"""Length of the fade of a cut."""
CACHED_CHARACTERS = 80
"""Sentences up to this length are kept."""
CACHED_SENTENCES = 128
"""How many are kept; the least recently used is dropped (at most about 60 MB)."""
_UNSPOKEN = frozenset(" ,.;:!?…—\"“”()'")
_CLAUSE_ENDS = frozenset(",;:.!?—…")
_FLOOR = 10 ** (-45 / 20)
"""Sound below it is the silence before and after speech (-45 dBFS)."""
_LEVEL_FRAME = OUTPUT_RATE_HZ * 20 // 1000


@dataclass(frozen=True, slots=True)
class WordTiming:
    """Where one word of the text lies in the sound."""

    text: str
    """As it is written, with its punctuation."""
    start_sample: int
    end_sample: int
    """One past its last sample. Equal to `start_sample` for a word that has no sound, such as an emoji."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """A text as sound."""

    text: str
    audio: Samples
    """24 kHz, shape `(S,)`, not writable."""
    words: tuple[WordTiming, ...]
    """One for each word of `text.split()`, in order."""

    def words_ended_by(self, sample: int) -> int:
        """Return how many words have been said completely when `sample` samples have been played."""
        return sum(1 for word in self.words if word.end_sample <= sample)


class Voice:
    """Makes speech. All methods block, about 10 ms for a word and 30 ms for a sentence; one thread at a time."""

    def __init__(
        self, model: VoiceModel | None = None, *, style: VoiceStyle | None = None, seed: int = 0
    ) -> None:
        """Speak with a loaded model (by default it is loaded now), in a style; `seed` fixes the noise in the voice.

        Raises:
            SpeechExtraMissingError: hibari is not installed.
        """
        self._model = model or VoiceModel()
        self._style = style or VoiceStyle()
        self._seed = seed
        self._cache: OrderedDict[str, Rendering] = OrderedDict()

    def sentences(self, text: str) -> list[str]:
        """Split a text into what is best rendered at once; the words of all together are `text.split()`."""
        return [" ".join(sentence.split()) for sentence in self._model.sentences(text)]

    def render(self, text: str) -> Rendering:
        """Return the whole text as one sound; a text without anything to say is silent and has length 0."""
        return joined(text, list(self.stream(text)))

    def stream(self, text: str) -> Iterator[Rendering]:
        """Yield one rendering per sentence as soon as it is made; their words together are `text.split()`."""
        for sentence in self.sentences(text):
            yield self._sentence(sentence)

    def _sentence(self, sentence: str) -> Rendering:
        if (known := self._cache.get(sentence)) is not None:
            self._cache.move_to_end(sentence)
            return known
        rendering = self._render(sentence)
        if len(sentence) <= CACHED_CHARACTERS:
            self._cache[sentence] = rendering
            if len(self._cache) > CACHED_SENTENCES:
                self._cache.popitem(last=False)
        return rendering

    def _render(self, sentence: str) -> Rendering:
        written = sentence.split()
        groups = self._model.groups(sentence)
        owners = align(written, [group.text for group in groups], self._weight)
        audio: list[Samples] = []
        spans: dict[int, tuple[int, int]] = {}
        length = 0
        for portion in _portions(groups, owners):
            sound, found = self._speak(portion)
            for owner, (start, end) in found.items():
                spans[owner] = (spans.get(owner, (start + length, 0))[0], end + length)
            audio.append(sound)
            length += sound.size
        return Rendering(sentence, _frozen(audio), _timings(written, spans))

    def _weight(self, word: str) -> int:
        return sum(len(group.phonemes) for group in self._model.groups(word))

    def _speak(self, portion: list[tuple[str, int]]) -> tuple[Samples, dict[int, tuple[int, int]]]:
        """Return the sound of a portion and where in it each written word lies."""
        phonemes = "".join(piece for piece, _ in portion)
        owners = [owner for piece, owner in portion for _ in piece]
        spoken = self._model.speak(phonemes, self._seed, self._style)
        audio, offset = _trimmed(_levelled(spoken.audio))
        spans: dict[int, tuple[int, int]] = {}
        begin = spoken.start
        for phoneme, owner, end in zip(phonemes, owners, spoken.ends.tolist(), strict=True):
            if phoneme not in _UNSPOKEN and end > begin:
                first = spans[owner][0] if owner in spans else _within(begin - offset, audio)
                spans[owner] = (first, _within(end - offset, audio))
            begin = end
        return audio, spans


def fade_out(audio: Samples) -> Samples:
    """Return sound that is to be the last before a cut, its last 10 ms (or all, if shorter) fading to nothing."""
    length = min(FADE_SAMPLES, audio.size)
    faded = audio.copy()
    faded[audio.size - length :] *= np.linspace(1.0, 0.0, length, dtype=np.float32)
    return faded


def joined(text: str, renderings: Sequence[Rendering]) -> Rendering:
    """Return renderings one after another as the rendering of `text`, whose words they hold together."""
    words: list[WordTiming] = []
    length = 0
    for rendering in renderings:
        words += (
            replace(w, start_sample=w.start_sample + length, end_sample=w.end_sample + length)
            for w in rendering.words
        )
        length += rendering.audio.size
    return Rendering(text, _frozen([rendering.audio for rendering in renderings]), tuple(words))


def _frozen(pieces: Sequence[Samples]) -> Samples:
    audio = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    audio.setflags(write=False)
    return audio


def _within(position: int, audio: Samples) -> int:
    return min(max(position, 0), audio.size)


def _portions(
    groups: Sequence[PhonemeGroup], owners: Sequence[int | None]
) -> Iterator[list[tuple[str, int]]]:
    """Pack groups, with the written word that each belongs to, into portions that the model takes at once."""
    portion: list[tuple[str, int]] = []
    length = 0
    for group, owner in zip(groups, owners, strict=True):
        for at in range(0, len(group.phonemes), MOST_PHONEMES):
            piece = group.phonemes[at : at + MOST_PHONEMES]
            if portion and (length + len(piece) + 1 > MOST_PHONEMES or _is_good_break(portion, length)):
                yield portion
                portion, length = [], 0
            if portion:
                piece = f" {piece}"
            portion.append((piece, owner or 0))
            length += len(piece)
    if any(phoneme not in _UNSPOKEN for piece, _ in portion for phoneme in piece):
        yield portion


def _is_good_break(portion: list[tuple[str, int]], length: int) -> bool:
    """Whether a long portion ends at a clause, where a break is not heard as one."""
    return length > MOST_PHONEMES // 2 and portion[-1][0][-1] in _CLAUSE_ENDS


def _timings(written: Sequence[str], spans: dict[int, tuple[int, int]]) -> tuple[WordTiming, ...]:
    """Return a timing for every word; one without sound lies, with no length, where the word before it ends."""
    words: list[WordTiming] = []
    last = 0
    for number, text in enumerate(written):
        start, last = spans.get(number, (last, last))
        words.append(WordTiming(text, start, last))
    return tuple(words)


def _levelled(audio: Samples) -> Samples:
    """Bring the sounding parts to `TARGET_RMS`, so that every sentence is as loud as the others."""
    if audio.size < _LEVEL_FRAME:
        return audio
    frames = audio[: audio.size // _LEVEL_FRAME * _LEVEL_FRAME].reshape(-1, _LEVEL_FRAME)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    sounding = power[power > np.max(power) * 0.01]
    loudest = float(np.max(np.abs(audio)))
    if sounding.size == 0 or loudest == 0.0:
        return audio
    gain = min(TARGET_RMS / float(np.sqrt(np.mean(sounding))), PEAK / loudest)
    return audio * np.float32(gain)


def _trimmed(audio: Samples) -> tuple[Samples, int]:
    """Cut the silence before and after the sound; return it and how many samples were cut at the front."""
    loud = np.flatnonzero(np.abs(audio) > _FLOOR)
    if loud.size == 0:
        return np.zeros(0, np.float32), 0
    begin = max(int(loud[0]) - LEAD_SAMPLES, 0)
    end = min(int(loud[-1]) + TAIL_SAMPLES, audio.size)
    trimmed = fade_out(audio[begin:end])
    rise = min(LEAD_SAMPLES // 2, trimmed.size)
    trimmed[:rise] *= np.linspace(0.0, 1.0, rise, dtype=np.float32)
    return trimmed, begin
