"""What the assistant says as utterances: which words are its own, which are of a result, and which of them have ended.

A result's utterance begins with its first word, and its words are counted as the mouth ends them. The words of one
micro-turn that are the network's own make one utterance, as nobody knows yet what follows. The rules are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from microturn.interaction_model.native.renderer import DELAY_SAMPLES
from microturn.interaction_model.native.script import Passage
from microturn.interaction_model.native.vocoder_frames import FRAME_SAMPLES, TURN_FRAMES
from microturn.protocols import SpokenWord, Utterance, UtteranceSource


@dataclass(frozen=True, slots=True)
class _Sounding:
    """A word that the mouth has been given and has not ended."""

    utterance: Utterance
    index: int | None
    """Its place in the utterance; None for a word after which no word of the text ends."""
    last: bool
    opens: bool
    """Whether the utterance begins with it, and has not been announced."""


@dataclass(frozen=True, slots=True)
class Told:
    """What an output tells of its words."""

    utterances: tuple[Utterance, ...]
    words: tuple[SpokenWord, ...]


@dataclass(frozen=True, slots=True)
class Narration:
    """The account of one session. A value: keep it to go back to it."""

    names: int = 0
    """Utterances so far."""
    telling: Utterance | None = None
    """That of the result that was begun last."""
    sounding: tuple[_Sounding, ...] = ()

    @property
    def is_speaking(self) -> bool:
        """Whether a word is not at its end."""
        return bool(self.sounding)

    def saying(self, words: Sequence[str], source: UtteranceSource) -> Narration:
        """Take in words of the network's own that the mouth is given in a micro-turn."""
        if not words:
            return self
        utterance = Utterance(f"utterance-{self.names}", " ".join(words), source)
        new = [_Sounding(utterance, n, n == len(words) - 1, opens=n == 0) for n in range(len(words))]
        return replace(self, names=self.names + 1, sounding=(*self.sounding, *new))

    def reading_out(self, passage: Passage) -> Narration:
        """Take in words of a result that the mouth is given in a micro-turn."""
        begun = self._begun(passage) if passage.opens else self
        if begun.telling is None:
            return self
        last = len(passage.words) - 1
        new = [
            _Sounding(begun.telling, index, passage.closes and n == last, opens=passage.opens and n == 0)
            for n, (_, index) in enumerate(passage.words)
        ]
        return replace(begun, sounding=(*self.sounding, *new))

    def heard(self, ends: Sequence[int], lead: int, samples: int) -> tuple[Narration, Told]:
        """Take in which words the mouth ended.

        Args:
            ends: for each word, in order, the frame behind its last one.
            lead: samples of silence before the first frame in this output.
            samples: length of this output; a word that dies away behind it counts as ended with it.
        """
        utterances: list[Utterance] = []
        words: list[SpokenWord] = []
        left, frame = list(self.sounding), 0
        for end in (*ends, None):
            if left and left[0].opens and frame < TURN_FRAMES:
                start = min(lead + frame * FRAME_SAMPLES + DELAY_SAMPLES, samples)
                utterances.append(replace(left[0].utterance, start_sample=start))
                left[0] = replace(left[0], opens=False)
            if end is None or not left:
                break
            word, frame = left.pop(0), end
            if word.index is not None:
                at = min(lead + end * FRAME_SAMPLES + DELAY_SAMPLES, samples)
                words.append(SpokenWord(word.utterance.utterance_id, word.index, at, word.last))
        return replace(self, sounding=tuple(left)), Told(tuple(utterances), tuple(words))

    def hushed(self) -> Narration:
        """Break off what is being said."""
        return replace(self, sounding=())

    def _begun(self, passage: Passage) -> Narration:
        if passage.result is None:
            return self
        woven = passage.result.woven
        utterance = Utterance(f"utterance-{self.names}", woven.text, "woven", woven.item_id)
        return replace(self, names=self.names + 1, telling=utterance)
