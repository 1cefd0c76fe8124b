"""Phrases of a bank of clips, one after another: all of them are written down, and nothing is answered.

Half of a bank's phrases follow no grammar; the others are also requests, which elsewhere are answered. So that the two
do not contradict each other, a scene begins with a typed text that asks for nothing but hearing.
"""

from __future__ import annotations

from microturn.interaction_model.training.clip_bank import ClipBank
from microturn.interaction_model.training.phrase_sounds import ClipMemory, phrase_of
from microturn.interaction_model.training.scene import Phrase
from microturn.interaction_model.training.stage import Forms, Stage
from microturn.interaction_model.training.utterances import Utterance, trimmed
from microturn.protocols import Samples

PREFIX = "bank"
TASK = "hearing"
LENGTH_MS = (12_000, 24_000)
"""Of a scene; our choice."""
HEAR_ALL = Forms(train=("hear it all", "hear all of this"), test=("please hear it all",))
"""Asks, in writing, for nothing but hearing."""
_CLOSE_SHARE = 0.3
_CLOSE_MS, _APART_MS = (30, 200), (200, 1200)
"""Silence between phrases."""


class BankPhrases:
    """Writes scenes with the phrases of a bank; one thread at a time."""

    def __init__(self, bank: ClipBank) -> None:
        """Use a bank.

        Raises:
            ValueError: it holds no phrases.
        """
        if not bank.phrases:
            raise ValueError("bank must hold phrases, got none")
        self._bank = bank
        self._clip = ClipMemory(self._read)

    def hear(self, stage: Stage) -> None:
        """Write a scene; a task of the mixture."""
        stage.text(stage.form(HEAR_ALL))
        stage.wait(*_APART_MS)
        end = stage.now_ms + stage.between(*LENGTH_MS)
        while stage.now_ms < end:
            name = f"{PREFIX}:{stage.one_of(self._bank.phrases)}"
            stage.recording(phrase_of(self._clip(name), name))
            stage.wait(*(_CLOSE_MS if stage.chance(_CLOSE_SHARE) else _APART_MS))

    def sound(self, phrase: Phrase) -> Samples:
        """Return the sound of a phrase of the bank, 16 kHz, `(S,)`."""
        return self._clip(phrase.clip).audio

    def _read(self, name: str) -> Utterance:
        return trimmed(self._bank.clip(int(name.partition(":")[2])), 0)
