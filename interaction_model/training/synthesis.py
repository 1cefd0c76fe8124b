"""All engines behind one door: a speaker is said by the engine that it belongs to.

Knows which engines there are; nothing of how each of them works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from microturn.interaction_model.training import espeak_engine, flite_engine
from microturn.interaction_model.training._errors import WordTimesError
from microturn.interaction_model.training.espeak_engine import EspeakSynthesizer
from microturn.interaction_model.training.flite_engine import FliteSynthesizer
from microturn.interaction_model.training.hibari_engine import HibariSynthesizer
from microturn.interaction_model.training.speakers import Engine, Speaker
from microturn.interaction_model.training.speech_program import SpeechProgram
from microturn.interaction_model.training.utterances import Synthesizer, Utterance, joined, levelled, trimmed
from microturn.protocols import INPUT_RATE_HZ

_LOADERS: Mapping[Engine, Callable[[], Synthesizer]] = MappingProxyType(
    {
        Engine.HIBARI: HibariSynthesizer,
        Engine.FLITE: FliteSynthesizer,
        Engine.ESPEAK: EspeakSynthesizer,
    }
)
_SHORTEST_PAUSE, _LONGEST_PAUSE = INPUT_RATE_HZ // 50, INPUT_RATE_HZ // 8
"""Silence between words that are said one by one: 20 to 125 ms."""


class Synthesis:
    """Says words as any speaker of its engines; blocks, one thread at a time."""

    def __init__(self, engines: Iterable[Engine]) -> None:
        """Load the engines.

        Raises:
            SpeechExtraMissingError: hibari is wanted and not installed.
            SpeechProgramMissingError: a program is wanted and not on PATH.
        """
        self._engines = {engine: _LOADERS[engine]() for engine in engines}

    def say(self, words: Sequence[str], speaker: Speaker, seed: int) -> Utterance:
        """Return the words as the speaker says them, at the usual level; equal arguments give equal samples.

        Words are said one by one where the engine cannot tell where they lie in the phrase.

        Raises:
            KeyError: the speaker is of an engine that was not loaded.
            WordTimesError: the engine cannot even say where a single word lies.
        """
        return levelled(self._said(words, speaker, seed))

    def _said(self, words: Sequence[str], speaker: Speaker, seed: int) -> Utterance:
        engine = self._engines[speaker.engine]
        try:
            return engine.say(words, speaker, seed)
        except WordTimesError:
            if len(words) == 1:
                raise
        pauses = np.random.default_rng(seed).integers(_SHORTEST_PAUSE, _LONGEST_PAUSE, len(words) - 1)
        singles = [trimmed(engine.say([word], speaker, seed), margin_samples=0) for word in words]
        return joined(singles, pauses.tolist())


def installed_engines() -> tuple[Engine, ...]:
    """Return the engines whose programs are there; hibari is a package and always one of them."""
    programs = {Engine.FLITE: flite_engine.PROGRAM, Engine.ESPEAK: espeak_engine.PROGRAM}
    found = (engine for engine, program in programs.items() if SpeechProgram.is_installed(program))
    return (Engine.HIBARI, *found)
