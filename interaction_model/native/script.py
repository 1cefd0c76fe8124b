"""Results of the background: the network decides when one is said and when it is broken off, never what is said.

A result that was handed in waits. Where the network begins to say a word that can only mean the result, the result's own
words are said, each in the micro-turn in which it begins, as the network has learned to say them. Until the last of
them the network is asked for all else: what it hears, tasks, and whether to hush.

A word is the network's own where it goes on with what it is saying, or owes the user an answer; where it does, the
first word of a result that waits means the result all the same. Behind a result nothing is added to it: until the network
was silent for a micro-turn, or the user spoke, its words are refused. Knows words and times, neither tensors nor sound.
The rules are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import NamedTuple

from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS, Emission, Words
from microturn.interaction_model.native.pace import OwnWordMs, Pace
from microturn.interaction_model.native.sayable import SayableWord, sayable_words
from microturn.interaction_model.native.user_turn import TURN_GAP
from microturn.interaction_model.native.vocabulary import Token, WordKind, said_token, word_of
from microturn.protocols import WovenText

BACKCHANNEL: Words = ("hmm",)
"""What the mouth says to show that the assistant listens; our choice."""
BEGIN_WITHIN = 25
"""Micro-turns in which a result must be begun, or it is given back: 5 s."""
GO_ON_WITHIN = 5
"""Micro-turns in which a result that was begun must go on: 1 s."""
LONGEST_REPLY = 75
"""Micro-turns after which any word means the result that waits, 15 s: longer than any answer in training."""

FULL_MS = 2000
"""While so much is left to say the network's words are refused: it has learned to say each when it begins, so that
only one that is broken says more, and nothing must keep a result waiting for minutes. Our choice."""


class Voice(Enum):
    """Whose words were said last."""

    NOBODY = auto()
    NETWORK = auto()
    RESULT = auto()


@dataclass(frozen=True, slots=True)
class Result:
    """A result that was handed in and not given to the mouth to its end."""

    woven: WovenText
    words: tuple[SayableWord, ...]
    """All that can be said of it."""
    since: int
    """The micro-turn in which it was handed in, or begun, or its last word was given to the mouth."""
    said: int = 0
    """How many of the words were given to the mouth."""
    is_begun: bool = False

    @property
    def left(self) -> Words:
        """What is still to be said."""
        return tuple(word for word, _ in self.words[self.said :])

    def has_waited(self, turn: int) -> bool:
        """Whether it has waited too long to be begun or to go on."""
        patience = GO_ON_WITHIN if self.is_begun else BEGIN_WITHIN
        return turn - self.since >= (patience if self.words else 1)


@dataclass(frozen=True, slots=True)
class Passage:
    """How a micro-turn ends: with so many words of a result, or with none."""

    result: Result | None = None
    """As it was before."""
    count: int = 0
    refuses: bool = False
    """Whether a word of the network was left out."""

    @property
    def words(self) -> tuple[SayableWord, ...]:
        """What is given to the mouth."""
        return self.result.words[self.result.said :][: self.count] if self.result else ()

    @property
    def tokens(self) -> tuple[int, ...]:
        """The same as output tokens."""
        return tuple(said_token(word) for word, _ in self.words)

    @property
    def opens(self) -> bool:
        """Whether the result begins with these words."""
        return bool(self.words) and self.result is not None and self.result.said == 0

    @property
    def closes(self) -> bool:
        """Whether no word is left behind these."""
        return self.result is not None and self.result.said + self.count == len(self.result.words)


class Taken(NamedTuple):
    """What one micro-turn came to."""

    script: Script
    words: Words
    """What the mouth is given."""
    gives_up: bool
    """Whether results were given back because nothing was said for too long."""


@dataclass(frozen=True, slots=True)
class Script:
    """What is to be said in one session, and who says it. A value: keep it to go back to it."""

    pace: Pace = field(default_factory=Pace)
    results: tuple[Result, ...] = ()
    """Oldest first; at most one is begun."""
    asked: int | None = None
    """The micro-turn of the user's last word, spoken or typed, if nothing was answered since."""
    voice: Voice = Voice.NOBODY

    @property
    def begun(self) -> Result | None:
        """The result that is being said."""
        return next((result for result in self.results if result.is_begun), None)

    def given(self, woven: Iterable[WovenText], text: Sequence[str], turn: int) -> Script:
        """Take in results that are handed to the network, and typed words that it reads."""
        new = tuple(Result(each, sayable_words(each.text), turn) for each in woven)
        return replace(self, results=self.results + new, asked=turn if text else self.asked)

    def hushed(self, turn: int) -> Script:
        """Break off what is being said, and give back all results but those handed in now."""
        kept = tuple(result for result in self.results if result.since == turn and not result.is_begun)
        return replace(self, pace=self.pace.stopped(), results=kept, voice=Voice.NOBODY)

    def meant(self, word: str, turn: int) -> Result | None:
        """Which result is meant by a word with which the network begins; None for none.

        Args:
            word: what the network would say.
            turn: the number of this micro-turn.
        """
        waiting = [result for result in self.results if result.words]
        named = [result for result in waiting if result.left[0] == word]
        chosen = next(iter(named or waiting), None)
        if chosen is None or any(turn - result.since >= LONGEST_REPLY for result in waiting):
            return chosen
        if self.voice is Voice.NETWORK and not self.pace.has_rested:
            return next(iter(named), None) if not self.pace.is_speaking else None
        if self.is_asked(turn):
            return next(iter(named), None)
        return None if self.voice is Voice.RESULT and not self.pace.has_rested else chosen

    def refuses(self, turn: int) -> bool:
        """Whether a word of the network that means no result is left out.

        It is where it would be heard as a part of one, and where the mouth has too much to say already.
        """
        is_addition = self.voice is Voice.RESULT and not self.is_asked(turn)
        return is_addition or self.pace.left_ms >= FULL_MS

    def is_asked(self, turn: int) -> bool:
        """Whether the user may be waiting for an answer."""
        return self.asked is not None and turn - self.asked < TURN_GAP

    def after(self, turn: int, emission: Emission, passage: Passage, word_ms: OwnWordMs) -> Taken:
        """Take in what was emitted in a micro-turn, the words of `passage` included."""
        script = self.hushed(turn) if emission.hushes else self
        words = script._given_words(emission)
        gives_up = (
            script.pace.is_quiet and not words and any(each.has_waited(turn) for each in script.results)
        )
        later = Script(
            pace=script.pace.saying(words, word_ms).later(),
            results=script._results_after(passage, turn, gives_up=gives_up),
            asked=script._asked_after(turn, emission, passage),
            voice=script._voice_after(emission, passage),
        )
        return Taken(later, words, gives_up)

    def _given_words(self, emission: Emission) -> Words:
        """What the mouth is given: a sign of listening only where it has nothing else to say."""
        if emission.said or not emission.backchannel or self.pace.is_speaking or self.begun:
            return emission.said
        return BACKCHANNEL

    def _results_after(self, passage: Passage, turn: int, *, gives_up: bool) -> tuple[Result, ...]:
        if gives_up:
            return tuple(result for result in self.results if result.since == turn)
        told = passage.result
        if told is None:
            return self.results
        said = told.said + passage.count
        since = turn if passage.count or not told.is_begun else told.since
        later = replace(told, said=said, since=since, is_begun=True)
        changed = (later if result is told else result for result in self.results)
        return tuple(result for result in changed if result is not later or not passage.closes)

    def _asked_after(self, turn: int, emission: Emission, passage: Passage) -> int | None:
        if emission.said and not passage.count:
            return None
        if emission.heard or emission.tasks:
            return turn
        if passage.result is not None and self.is_asked(turn):  # It can be answered only behind the result.
            return turn
        return self.asked

    def _voice_after(self, emission: Emission, passage: Passage) -> Voice:
        if passage.result is not None:
            return Voice.RESULT
        if emission.said:
            return Voice.NETWORK
        is_over = self.pace.has_rested and not passage.refuses and self.begun is None
        return Voice.NOBODY if is_over or emission.backchannel else self.voice


@dataclass(frozen=True, slots=True)
class Cue:
    """The script of one micro-turn, held against each token that the network draws."""

    script: Script
    turn: int
    word_ms: OwnWordMs

    def decide(self, before: Sequence[int], token: int) -> Passage | None:
        """Decide what becomes of a token that was drawn behind others of the same micro-turn.

        Returns:
            None if the token is taken and the network is asked for the next one. Otherwise it is not taken, the words
            of the passage are said, and the micro-turn is over.
        """
        word = _word(token, WordKind.SAID)
        if word is None and token != Token.END:
            return None
        script = self._script_behind(before)
        if script.begun is not None:
            return self._passage(script, script.begun, before)
        if word is None:
            return Passage()
        if any(_word(each, WordKind.SAID) is not None for each in before):
            return None
        meant = script.meant(word, self.turn)
        if meant is not None:
            return self._passage(script, meant, before)
        return Passage(refuses=True) if script.refuses(self.turn) else None

    def _script_behind(self, before: Sequence[int]) -> Script:
        script = self.script.hushed(self.turn) if Token.HUSH in before else self.script
        is_heard = any(_word(each, WordKind.HEARD) is not None for each in before)
        return replace(script, asked=self.turn) if is_heard else script

    def _passage(self, script: Script, result: Result, before: Sequence[int]) -> Passage:
        room = MAX_OUTPUT_TOKENS - len(before)
        return Passage(result, min(room, script.pace.fitting(result.left, self.word_ms)))


def _word(token: int, kind: WordKind) -> str | None:
    """The word of a token of a kind; None for another token."""
    known = word_of(token)
    return known[1] if known is not None and known[0] is kind else None
