"""The stage on which a task writes its scene: lines, replies and truths go in, a `Scene` comes out.

A task moves the cursor `now_ms` along and says what happens; the stage turns it into targets by fixed rules, each of
which depends only on what could have been heard by then:

- a word of the user is written down (HEARD) in the micro-turn after the one in which it ends;
- a reply begins in the micro-turn after the one in which the user's turn ends;
- an interruption that begins in micro-turn k lets no word begin, and no sound come, from micro-turn k + 1 on.

The delays are our choice: a micro-turn more of sound to decide on, and replies heard within 200 to 400 ms.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np

from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS, Words
from microturn.interaction_model.native.grammar import Inputs
from microturn.interaction_model.native.vocabulary import Token, heard_token, said_token
from microturn.interaction_model.training.cast import Cast
from microturn.interaction_model.training.scene import (
    MICRO_TURN_MS,
    USER,
    Due,
    Film,
    Moment,
    MomentKind,
    Noise,
    OwnWord,
    Phrase,
    Scene,
    Split,
    Talk,
)

HEARD_AFTER = 1
"""Micro-turns from the one in which a word ends to its HEARD."""
REPLY_AFTER = 1
"""Micro-turns from the one in which a turn ends to the first SAY of its reply."""
REPLY_WINDOW_MS = 1000
"""A reply that begins to be heard within this time of the turn's end is in time; our choice."""
HELD_OUT = 5
"""One in this many contents belongs to the test split."""

OPENINGS: tuple[Words, ...] = (
    ("okay",),
    ("now",),
    ("and",),
    ("then",),
    ("please",),
    ("um",),
    ("uh",),
    ("hmm",),
    ("okay", "now"),
    ("and", "then"),
)
"""What people begin a line with, whatever they want."""
WRITTEN_SHARE = 0.3
"""Share of requests of the train split that are typed where a task names no share of its own: what is asked for is then
learned even while hearing is not."""
OPENED_SHARE = 0.3
"""Share of lines of the train split that begin so: few wordings must not be learned by heart."""

Drawn = TypeVar("Drawn")


@dataclass(frozen=True, slots=True)
class Forms:
    """Wordings of a request by split; `{}` are its contents."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def belongs_to(split: Split, content: Words) -> bool:
    """Whether a content is of this split: a hash of its words decides, so that no content is of both."""
    held_out = zlib.crc32(" ".join(content).encode()) % HELD_OUT == 0
    return held_out == (split == "test")


@dataclass(slots=True)
class _Turn:
    """Output of one micro-turn while it is being written."""

    heard: list[str] = field(default_factory=list)
    cancels: bool = False
    intent: Words = ()
    backchannel: bool = False
    hushes: bool = False
    said: list[str] = field(default_factory=list)

    def tokens(self) -> tuple[int, ...]:
        task = (Token.DELEGATE, *map(heard_token, self.intent), Token.END_DELEGATE) if self.intent else ()
        hush = (Token.HUSH,) * self.hushes
        marks = hush, (Token.CANCEL,) * self.cancels, task, (Token.BACKCHANNEL,) * self.backchannel
        flat = (token for part in marks for token in part)
        return tuple(map(int, (*map(heard_token, self.heard), *flat, *map(said_token, self.said))))


class Stage:
    """One scene being written."""

    def __init__(
        self, task: str, split: Split, seed: int, cast: Cast, *, written_share: float | None = None
    ) -> None:
        self.task = task
        self.split = split
        self.seed = seed
        # The task's name takes part in the seed: two tasks drawn with one seed share nothing.
        self.rng = np.random.default_rng([seed, int(split == "test"), zlib.crc32(task.encode())])
        self._cast = cast
        self._written_share = written_share if split == "train" else None
        self.now_ms = self.between(200, 1200)
        """When the next line begins."""
        self.film: Film | None = None
        self._talks: list[Talk] = []
        self._noises: list[Noise] = []
        self._own: list[OwnWord] = []
        self._tasks: list[tuple[int, Words]] = []
        self._cancels: list[int] = []
        self._backchannels: list[int] = []
        self._hushes: list[int] = []
        self._arrivals: dict[int, Inputs] = defaultdict(Inputs)
        self._due: list[Due] = []
        self._moments: list[Moment] = []

    # Drawing.

    def between(self, low: int, high: int) -> int:
        """Draw a whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        """Draw whether something happens that happens in `share` of all scenes."""
        return bool(self.rng.random() < share)

    def one_of(self, choices: Sequence[Drawn]) -> Drawn:
        """Draw one of them."""
        return choices[int(self.rng.integers(len(choices)))]

    def form(self, forms: Forms, *contents: Words) -> Words:
        """Draw a wording of this split and put the contents in; what is to be trained on may have an opening."""
        wording = self.one_of(forms.train if self.split == "train" else forms.test)
        words = tuple(wording.format(*(" ".join(content) for content in contents)).split())
        is_opened = self.split == "train" and self.chance(OPENED_SHARE)
        return (*self.one_of(OPENINGS), *words) if is_opened else words

    def own_content(self, draw: Callable[[], Words]) -> Words:
        """Draw contents until one is of this split.

        Raises:
            ValueError: no content of a thousand was; what is drawn from is too small to be split.
        """
        for _ in range(1000):
            if belongs_to(self.split, content := draw()):
                return content
        raise ValueError(f"drew 1000 contents for {self.task!r} and none was of the split {self.split!r}")

    # What others do.

    def wait(self, low_ms: int, high_ms: int) -> None:
        """Let a random time pass."""
        self.now_ms += self.between(low_ms, high_ms)

    def user(self, words: Words) -> Talk:
        """Let the user say a line now, and move to its end. Every word is to be written down."""
        return self._talk(words, USER, 0.0)

    def turn(self, words: Words) -> None:
        """Let the user say a line now that is a whole turn, and move to its end."""
        talk = self.user(words)
        self.moment("turn", talk.start_ms, talk.end_ms)

    def ask(self, words: Words, *, written_share: float | None = None) -> None:
        """Let the user ask for something now, aloud or in writing, and move to its end.

        `written_share` is that of both splits; if none is given, a request is written on the train split alone. The
        share that the stage was given goes before either, on the train split.
        """
        usual = WRITTEN_SHARE if self.split == "train" else 0.0
        shares = (self._written_share, written_share, usual)
        share = next(each for each in shares if each is not None)
        # Without a share nothing is drawn.
        if share and self.chance(share):
            self.text(words)
        else:
            self.turn(words)

    def recording(self, phrase: Phrase) -> Talk:
        """Let the user say what is there already, in whatever voice, and move to its end; see `user`."""
        return self._spoken(phrase, USER, 0.0)

    def others(self, words: Words, *, speaker: int) -> Talk:
        """Let somebody further away say a line now, and move to its end. Nothing of it is to be written down."""
        talk = self._talk(words, speaker, -self.between(12, 20))
        self.moment("others", talk.start_ms, talk.end_ms)
        return talk

    def _talk(self, words: Words, speaker: int, gain_db: float) -> Talk:
        take = len(self._talks)
        phrase = self._cast.voices.phrase(words, scene_seed=self.seed, speaker=speaker, take=take)
        return self._spoken(phrase, speaker, gain_db)

    def _spoken(self, phrase: Phrase, speaker: int, gain_db: float) -> Talk:
        talk = Talk(self.now_ms, speaker, phrase, gain_db)
        self._talks.append(talk)
        self.now_ms = talk.end_ms
        return talk

    def noise(self, kind: Literal["noise", "music", "click"], length_ms: int, gain_db: float) -> None:
        """Let a sound begin now; the cursor stays."""
        self._noises.append(Noise(kind, self.now_ms, length_ms, gain_db))

    def text(self, words: Words) -> None:
        """Let a typed text arrive now, and move to the end of its micro-turn."""
        turn = turn_of(self.now_ms)
        self._arrivals[turn] = replace(self._arrivals[turn], text=words)
        self.now_ms = (turn + 1) * MICRO_TURN_MS

    def background(self, words: Words, at_ms: int) -> int:
        """Let a result arrive; return its micro-turn."""
        turn = turn_of(at_ms)
        here = self._arrivals[turn]
        self._arrivals[turn] = replace(here, background=(*here.background, words))
        return turn

    # What the assistant should do.

    @property
    def free_ms(self) -> int:
        """When the last of the assistant's words ends."""
        return self._own[-1].end_ms if self._own else 0

    def reply_turn(self) -> int:
        """The micro-turn in which a reply to what ended just now begins."""
        return turn_of(self.now_ms - 1) + REPLY_AFTER

    def say(self, words: Words, turn: int | None = None) -> tuple[int, int]:
        """Say words from a micro-turn on, now if none is given, after what is being said; return begin and end.

        The cursor stays, so that the user can go on.
        """
        begin = max(heard_ms(self.reply_turn() if turn is None else turn), self.free_ms)
        end = begin
        before = self._own[-1].word if self._own and begin == self.free_ms else None
        for word in words:
            start, end = end, end + self._cast.own_word_ms(word, before)
            before = word
            self._own.append(OwnWord(word, start // MICRO_TURN_MS - 1, start, end))
        return begin, end

    def reply(self, words: Words, *, also: tuple[Words, ...] = ()) -> None:
        """Answer what ended just now: say it, note that it is due, and move to its end.

        `also` are answers that are right as well.
        """
        self.due("reply", (words, *also), self.reply_window())
        _, self.now_ms = self.say(words)

    def reply_window(self) -> tuple[int, int]:
        """When an answer to what ended just now has to begin."""
        return self.now_ms, self.now_ms + REPLY_WINDOW_MS

    def fall_silent(self, interrupted_ms: int) -> None:
        """Stop speaking because the user takes the floor at a time."""
        stop = turn_of(interrupted_ms) + 1
        kept = [word for word in self._own if word.micro_turn < stop]
        # Also where a word has just ended: what was left unsaid must not be taken up again.
        if len(kept) < len(self._own) or any(word.end_ms > heard_ms(stop) for word in kept):
            self._hushes.append(stop)
        self._own = [replace(word, end_ms=min(word.end_ms, heard_ms(stop))) for word in kept]

    def backchannel(self, turn: int) -> None:
        """Show that the user is listened to, and note when that is heard."""
        self._backchannels.append(turn)
        self.moment("sign", heard_ms(turn), heard_ms(turn + 1))

    def delegate(self, intent: Words) -> None:
        """Hand a task to the background, now."""
        self._tasks.append((self.reply_turn(), intent))

    def cancel(self) -> None:
        """Cancel the running task, now."""
        self._cancels.append(self.reply_turn())

    # The truth.

    def due(self, kind: str, answers: tuple[Words, ...], window_ms: tuple[int, int]) -> None:
        """Note what has to be said."""
        self._due.append(Due(kind, answers, window_ms))

    def moment(self, kind: MomentKind, start_ms: int, end_ms: int) -> None:
        """Note a stretch of time that a score looks at."""
        self._moments.append(Moment(kind, start_ms, end_ms))

    # The end.

    def finish(self) -> Scene:
        """Give out the scene, with some silence at its end."""
        last = max(self.now_ms, self.free_ms) + self.between(1000, 2000)
        count = -(-last // MICRO_TURN_MS)
        turns = self._written(count)
        return Scene(
            task=self.task,
            split=self.split,
            seed=self.seed,
            micro_turns=count,
            talks=tuple(sorted(self._talks, key=lambda talk: talk.start_ms)),
            noises=tuple(_ending_by(noise, count * MICRO_TURN_MS) for noise in self._noises),
            arrivals=dict(self._arrivals),
            targets=tuple(turn.tokens() for turn in turns),
            speech=tuple(self._own),
            tasks=tuple((place, turn.intent) for place, turn in enumerate(turns) if turn.intent),
            cancels=tuple(self._cancels),
            due=tuple(self._due),
            moments=tuple(self._moments),
            film=self.film,
        )

    def _written(self, count: int) -> list[_Turn]:
        turns = [_Turn() for _ in range(count)]
        for heard_at, word in self._heard():
            turns[heard_at].heard.append(word)
        for own in self._own:
            turns[own.micro_turn].said.append(own.word)
        for turn in self._cancels:
            turns[turn].cancels = True
        for turn in self._backchannels:
            turns[turn].backchannel = True
        for turn in self._hushes:
            turns[turn].hushes = True
        for turn, intent in self._tasks:
            _first_with_room(turns[turn:], intent).intent = intent
        return turns

    def _heard(self) -> list[tuple[int, str]]:
        return [
            (turn_of(talk.start_ms + end - 1) + HEARD_AFTER, word)
            for talk in sorted(self._talks, key=lambda each: each.start_ms)
            if talk.speaker == USER
            for word, (_, end) in zip(talk.phrase.words, talk.phrase.spans_ms, strict=True)
        ]


def turn_of(time_ms: int) -> int:
    """The micro-turn that a time lies in."""
    return time_ms // MICRO_TURN_MS


def heard_ms(turn: int) -> int:
    """When the sound of a micro-turn's output begins to be heard."""
    return (turn + 1) * MICRO_TURN_MS


def _ending_by(noise: Noise, end_ms: int) -> Noise:
    return replace(noise, length_ms=min(noise.length_ms, end_ms - noise.start_ms))


def _first_with_room(turns: Sequence[_Turn], intent: Words) -> _Turn:
    needed = len(intent) + 2
    for turn in turns:
        if not turn.intent and len(turn.tokens()) + needed <= MAX_OUTPUT_TOKENS:
            return turn
    raise ValueError(f"found no micro-turn with room for a task of {len(intent)} words; shorten the intent")
