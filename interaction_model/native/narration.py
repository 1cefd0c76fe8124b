"""What the assistant says as utterances: which words are its own, which are of a result, and which of them have ended.

The network says a result in its own time, word by word. A word that it says belongs to a result if it is among the next
few words of it; the result's utterance then begins, and its words are counted as the mouth ends them. All other words
are replies; those of one micro-turn make one utterance, as nobody knows yet what follows. The rules are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from microturn.interaction_model.native.renderer import DELAY_SAMPLES
from microturn.interaction_model.native.sayable import SayableWord, sayable_words
from microturn.interaction_model.native.vocoder_frames import FRAME_SAMPLES, TURN_FRAMES
from microturn.protocols import SpokenWord, Utterance, UtteranceSource, WovenText

LOOKAHEAD = 3
"""Words of a result that may come next: two may be left out."""
BEGIN_WITHIN = 25
"""Micro-turns in which a result must be begun, or it is given back: 5 s."""
GO_ON_WITHIN = 5
"""Micro-turns in which a result that was begun must go on: 1 s."""


@dataclass(frozen=True, slots=True)
class _Result:
    """A result that was handed in and not said to its end."""

    woven: WovenText
    words: tuple[SayableWord, ...]
    """Those that are left."""
    since: int
    """The micro-turn in which it was handed in, or its last word was given to the mouth."""
    utterance_id: str = ""
    """Empty until it is begun."""

    @property
    def patience(self) -> int:
        """Micro-turns that it may still wait."""
        if not self.words:
            return 1
        return GO_ON_WITHIN if self.utterance_id else BEGIN_WITHIN


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
    results: tuple[_Result, ...] = ()
    sounding: tuple[_Sounding, ...] = ()

    @property
    def is_speaking(self) -> bool:
        """Whether a word is not at its end."""
        return bool(self.sounding)

    def given(self, woven: Iterable[WovenText], turn: int) -> Narration:
        """Take in results that are handed to the network."""
        new = tuple(_Result(each, sayable_words(each.text), turn) for each in woven)
        return replace(self, results=self.results + new)

    def saying(self, words: Sequence[str], turn: int, *, backchannel: bool = False) -> Narration:
        """Take in the words that the mouth is given in a micro-turn."""
        told, own = self, []
        for word in words:
            found = None if backchannel else told._found(word)
            if found is None:
                own.append(word)
            else:
                told = told._uttering(own)._telling(*found, turn)
                own = []
        return told._uttering(own, "backchannel" if backchannel else "reply")

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

    def has_given_up(self, turn: int) -> bool:
        """Whether a result has waited for too long to be begun or to go on."""
        return any(turn - result.since >= result.patience for result in self.results)

    def hushed(self) -> Narration:
        """Break off what is being said, and give back the results that it belongs to."""
        cut = {word.utterance.utterance_id for word in self.sounding}
        left = tuple(result for result in self.results if result.utterance_id not in cut)
        return replace(self, results=left, sounding=())

    def without_results(self, turn: int) -> Narration:
        """Give back all results but those handed in now."""
        return replace(self, results=tuple(result for result in self.results if result.since == turn))

    def _found(self, word: str) -> tuple[int, int] | None:
        """The result, begun ones first, and the place among its words that are left."""
        order = sorted(range(len(self.results)), key=lambda n: not self.results[n].utterance_id)
        for number in order:
            expected = [each for each, _ in self.results[number].words[:LOOKAHEAD]]
            if word in expected:
                return number, expected.index(word)
        return None

    def _telling(self, number: int, place: int, turn: int) -> Narration:
        result = self.results[number]
        name = result.utterance_id or f"utterance-{self.names}"
        utterance = Utterance(name, result.woven.text, "woven", result.woven.item_id)
        index, left = result.words[place][1], result.words[place + 1 :]
        sounding = _Sounding(utterance, index, not left, opens=not result.utterance_id)
        later = replace(result, words=left, since=turn, utterance_id=name)
        return replace(
            self,
            names=self.names + (not result.utterance_id),
            results=(*self.results[:number], *((later,) if left else ()), *self.results[number + 1 :]),
            sounding=(*self.sounding, sounding),
        )

    def _uttering(self, words: Sequence[str], source: UtteranceSource = "reply") -> Narration:
        if not words:
            return self
        utterance = Utterance(f"utterance-{self.names}", " ".join(words), source)
        new = [_Sounding(utterance, n, n == len(words) - 1, opens=n == 0) for n in range(len(words))]
        return replace(self, names=self.names + 1, sounding=(*self.sounding, *new))
