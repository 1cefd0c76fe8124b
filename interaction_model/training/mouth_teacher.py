"""What the mouth should draw in a scene: the teacher's frames, stretched to the lengths that the mouth gives symbols.

The teacher's lengths and the mouth's differ by a unit here and there. Coded frames hold no phases, so those of a symbol
are repeated or left out until they fill the mouth's length; then what a frame says is described as in serving.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.native.flow_head import PAST_FRAMES
from microturn.interaction_model.native.own_words import UNIT_MS, OwnWords
from microturn.interaction_model.native.pronunciation import symbols
from microturn.interaction_model.native.speech_track import UNIT_FRAMES, SpeechTrack
from microturn.interaction_model.native.vocoder_frames import TURN_FRAMES, Codes, louder, silence
from microturn.interaction_model.training.own_voice import SpokenPhrase
from microturn.interaction_model.training.scene import MICRO_TURN_MS, OwnWord, Scene
from microturn.interaction_model.training.scene_shards import MouthTargets

FADE_GAINS = (0.5, 0.25, 0.1)
"""How speech that is cut off dies away, frame by frame, in 37 ms; our choice."""


class Teacher(Protocol):
    """Says phrases in the assistant's voice, the same for the same words; see `OwnVoice`."""

    def say(self, words: Sequence[str]) -> SpokenPhrase:
        """Return the phrase with its frames and the length of every symbol."""
        ...


class MouthTeacher:
    """Makes the mouth's targets; blocks, about 40 ms for a phrase, one thread at a time."""

    def __init__(self, voice: Teacher, own_words: OwnWords) -> None:
        """Take frames from `voice`, and lengths from what the scenes were made with."""
        self._voice = voice
        self._own_words = own_words

    def targets(self, scene: Scene) -> MouthTargets | None:
        """Return the targets of all micro-turns that are not silent; None if the assistant says nothing."""
        if not scene.speech:
            return None
        numbers, measures, turns = self._states(scene)
        frames = np.concatenate([silence(PAST_FRAMES), self._frames(scene)])
        seen = np.arange(TURN_FRAMES + PAST_FRAMES) + TURN_FRAMES * np.array(turns)[:, None]
        return MouthTargets(
            turns=np.array(turns, np.int32),
            frames=frames[seen].astype(np.float16),
            symbols=numbers[seen].astype(np.uint8),
            measures=measures[seen].astype(np.float16),
        )

    def _states(self, scene: Scene) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], list[int]]:
        """What each frame says, with the past before the first, and the micro-turns in which anything is said."""
        given, cuts = _by_turn(scene.speech), self._cuts(scene)
        before = _words_before(scene.speech)
        track, turns = SpeechTrack(), []
        parts = [SpeechTrack().advanced(PAST_FRAMES)[1]]
        for turn in range(scene.micro_turns):
            track = track.cut() if turn in cuts else track
            for place in given.get(turn, ()):
                word = scene.speech[place].word
                track = track.adding(symbols(word), self._own_words.units(word, before[place]))
            if not track.is_quiet:
                turns.append(turn)
            track, states = track.advanced(TURN_FRAMES)
            parts.append(states)
        numbers = np.concatenate([part.symbols for part in parts])
        return numbers, np.concatenate([part.measures for part in parts]), turns

    def _cuts(self, scene: Scene) -> set[int]:
        """Micro-turns from which on a word that was begun is not said."""
        pairs = zip(scene.speech, _words_before(scene.speech), strict=True)
        return {_turn_of(word.end_ms) for word, before in pairs if self._is_cut(word, before)}

    def _is_cut(self, word: OwnWord, before: str | None) -> bool:
        return word.end_ms < word.start_ms + self._own_words(word.word, before)

    def _frames(self, scene: Scene) -> Codes:
        frames = silence(scene.micro_turns * TURN_FRAMES)
        for run, befores in self._runs(scene.speech):
            begin = _frame_of(run[0].start_ms)
            said = self._stretched([word.word for word in run], befores)
            if self._is_cut(run[-1], befores[-1]):
                said = _dying(said[: _frame_of(run[-1].end_ms) - begin])
            frames[begin : begin + len(said)] = said[: len(frames) - begin]
        return frames

    def _runs(self, speech: Sequence[OwnWord]) -> Iterator[tuple[list[OwnWord], list[str | None]]]:
        """Words that are said without a gap and not cut, and the word before each of them."""
        befores = _words_before(speech)
        ends = [
            place + 1
            for place, word in enumerate(speech)
            if place + 1 == len(speech) or befores[place + 1] is None or self._is_cut(word, befores[place])
        ]
        for begin, end in zip([0, *ends], ends, strict=False):
            yield list(speech[begin:end]), befores[begin:end]

    def _stretched(self, words: Sequence[str], befores: Sequence[str | None]) -> Codes:
        phrase = self._voice.say(words)
        wanted = [self._own_words.units(*pair) for pair in zip(words, befores, strict=True)]
        pairs = list(zip(chain(*wanted), chain(*phrase.units), strict=True))
        taken, at = [np.zeros(0, np.int64)], 0
        # The last pause is what follows the phrase anyway.
        for here, there in pairs[:-1]:
            taken.append(at + _places(here * UNIT_FRAMES, there * UNIT_FRAMES))
            at += there * UNIT_FRAMES
        rest = np.arange(at, len(phrase.frames))
        order = np.minimum(np.concatenate([*taken, rest]), len(phrase.frames) - 1)
        return np.asarray(phrase.frames[order])


def _words_before(speech: Sequence[OwnWord]) -> list[str | None]:
    """The word that each word follows without a gap, None after silence."""
    pairs = pairwise(speech)
    return [None, *(left.word if left.end_ms == right.start_ms else None for left, right in pairs)]


def _by_turn(speech: Sequence[OwnWord]) -> dict[int, list[int]]:
    """Places of the words that are begun in each micro-turn."""
    turns: dict[int, list[int]] = {}
    for place, word in enumerate(speech):
        turns.setdefault(word.micro_turn, []).append(place)
    return turns


def _places(wanted: int, there: int) -> npt.NDArray[np.int64]:
    """For each of the wanted frames the nearest in time of those that are there; the first if there are none."""
    return (2 * np.arange(wanted) + 1) * there // (2 * max(wanted, 1))


def _turn_of(heard_ms: int) -> int:
    """The micro-turn that draws what is heard at a time: it is heard when the micro-turn is over."""
    return heard_ms // MICRO_TURN_MS - 1


def _frame_of(heard_ms: int) -> int:
    return (heard_ms - MICRO_TURN_MS) // UNIT_MS * UNIT_FRAMES


def _dying(frames: Codes) -> Codes:
    """The frames with a short end behind them."""
    last = frames[-1:]
    return np.concatenate([frames, *(louder(last, gain) for gain in FADE_GAINS)])
