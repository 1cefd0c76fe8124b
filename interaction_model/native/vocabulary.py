"""The words that the native model knows, and the number of every token.

A word has three tokens: as it is read (a typed text, a result from the background), as it is heard (the transcript of
what the user says) and as it is said by the assistant. The numbers are fixed by the order of `THEMES`; a checkpoint
carries `FINGERPRINT` to show that it was trained with the same ones. Knows nothing of sound and nothing of tensors.

The choice of words and the layout of the numbers are ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum, auto
from types import MappingProxyType

from microturn.interaction_model.native._errors import UnknownWordsError

_THEMES = {
    "units": "zero one two three four five six seven eight nine",
    "teens": "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "tens": "twenty thirty forty fifty sixty seventy eighty ninety",
    "hundreds": "hundred",
    "colours": "red green blue yellow black white orange purple pink brown",
    "objects": "ball box cup book key lamp phone chair table door window bag hat clock bottle spoon",
    "shapes": "circle square triangle star",
    "fruits": "apple banana lemon pear grape cherry",
    "rooms": "kitchen bedroom bathroom office garden garage",
    "commands": "put take bring move open close turn find show tell say start keep watch",
    "places": "up down left right on off in here there",
    "days": "monday tuesday wednesday thursday friday saturday sunday today tomorrow tonight",
    "day parts": "morning noon evening",
    "questions": "what where when who how why many much long colour day",
    "answers": "yes no okay stop wait sorry please thanks hello goodbye good",
    "clock": (
        "every second seconds minute minutes hour hours until now remind me breathe out tick time timer "
        "after then again next last"
    ),
    "repetitions": "squat squats jump jumps push pushes wave waves count times person starts stops moves",
    "topics": ("weather news flight restaurant email search music train hotel price recipe doctor meeting"),
    "cities": "london paris rome berlin tokyo",
    "results": "sunny rain snow cloudy warm cold degrees found booked sent free ready done late",
    "grammar": (
        "the a is are was it this that to of for from with and or not i you my your we do does did can "
        "will would there's it's i'll let's"
    ),
    "work": "check look looking get got make play call cancel change need want think see hear",
    "quantities": "more less all some first new old big small fast slow",
    "fillers": "um uh hmm",
}

THEMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: tuple(words.split()) for name, words in _THEMES.items()}
)
"""The words by theme, lower case. A theme may repeat a word of an earlier one; it keeps its first place."""

WORDS: tuple[str, ...] = tuple(dict.fromkeys(word for theme in THEMES.values() for word in theme))
"""Every word once, in the order of `THEMES`: the index of a word is its slot."""


class Token(IntEnum):
    """The tokens that are not words."""

    PAD = 0
    """Fills a batch; never read, never predicted."""
    AUDIO = 1
    """Stands where a dMel frame is; its embedding is made from the frame."""
    PATCH = 2
    """Stands where an image patch is; its embedding is made from the patch."""
    NOW = 3
    """The question of a micro-turn: what is done now?"""
    END = 4
    """Nothing more in this micro-turn; predicted, never appended."""
    TEXT = 5
    """A typed text follows."""
    BACKGROUND = 6
    """A result from the background follows."""
    END_BACKGROUND = 7
    DELEGATE = 8
    """The words of a task for the background follow, as heard words."""
    END_DELEGATE = 9
    CANCEL = 10
    """The running task is no longer wanted."""
    BACKCHANNEL = 11
    """The assistant shows that it listens, without taking the floor."""
    UNKNOWN = 12
    """A written word that is none of `WORDS`."""
    HUSH = 13
    """The assistant breaks off what it is saying, in the middle of a word if need be."""


class WordKind(Enum):
    """In which way a word comes up."""

    READ = auto()
    HEARD = auto()
    SAID = auto()


RESERVED = 64
"""The first word token; the numbers below belong to `Token`."""
SLOTS = 320
"""Numbers set aside for each kind of word, so that a larger vocabulary leaves the other kinds where they are."""
SIZE = RESERVED + SLOTS * len(WordKind)
"""Rows of an embedding of tokens: 1,024."""

_BASES = {kind: RESERVED + SLOTS * place for place, kind in enumerate(WordKind)}
_SLOT = {word: slot for slot, word in enumerate(WORDS)}


def _fingerprint() -> str:
    names = ",".join(f"{token.name}={token.value}" for token in Token)
    layout = f"{names};{RESERVED};{SLOTS};{','.join(WORDS)}"
    return hashlib.sha256(layout.encode()).hexdigest()


FINGERPRINT = _fingerprint()
"""SHA-256 of the words, the tokens and their numbers."""


def slot(word: str) -> int:
    """Return the place of a word in `WORDS`.

    Raises:
        UnknownWordsError: the word is none of them.
    """
    try:
        return _SLOT[word]
    except KeyError:
        raise UnknownWordsError(1, "a word") from None


def read_token(word: str) -> int:
    """Return the number of a written word; `Token.UNKNOWN` for a word that is none of `WORDS`."""
    known = _SLOT.get(word)
    return int(Token.UNKNOWN) if known is None else _BASES[WordKind.READ] + known


def heard_token(word: str) -> int:
    """Return the number of a word that the user says.

    Raises:
        UnknownWordsError: the word is none of `WORDS`.
    """
    return _BASES[WordKind.HEARD] + slot(word)


def said_token(word: str) -> int:
    """Return the number of a word that the assistant begins to say.

    Raises:
        UnknownWordsError: the word is none of `WORDS`.
    """
    return _BASES[WordKind.SAID] + slot(word)


def token_range(kind: WordKind) -> range:
    """Return the numbers that are set aside for words of a kind."""
    return range(_BASES[kind], _BASES[kind] + SLOTS)


def word_of(token: int) -> tuple[WordKind, str] | None:
    """Return the kind and the word of a number; None if it stands for no word."""
    for kind, base in _BASES.items():
        if 0 <= token - base < len(WORDS):
            return kind, WORDS[token - base]
    return None


def known_words(text: str) -> tuple[str, ...]:
    """Split a text into words of the vocabulary: lower case, without punctuation, whole numbers below 1,000 said.

    Raises:
        UnknownWordsError: a word is none of `WORDS`; the text says how many, not which.
    """
    words = written_words(text)
    if unknown := sum(word not in _SLOT for word in words):
        raise UnknownWordsError(unknown, f"a text of {len(words)} words")
    return words


def written_words(text: str) -> tuple[str, ...]:
    """Split any text as `known_words` does, and leave unknown words in it."""
    words: list[str] = []
    for piece in text.lower().replace("’", "'").split():
        bare = piece.strip(".,;:!?…\"“”'()-–—")
        if bare.isascii() and bare.isdigit() and len(bare) <= 3:
            words += number_words(int(bare))
        elif bare:
            words.append(bare)
    return tuple(words)


def number_words(number: int) -> tuple[str, ...]:
    """Return how a number from 0 to 999 is said, without "and": 142 is one hundred forty two.

    Raises:
        ValueError: `number` is not from 0 to 999.
    """
    if not 0 <= number <= 999:
        raise ValueError(f"number must be from 0 to 999, got {number!r}")
    hundreds, rest = divmod(number, 100)
    head = (THEMES["units"][hundreds], "hundred") if hundreds else ()
    return (*head, *(_below_hundred(rest) if rest or not hundreds else ()))


def number_of(words: Sequence[str]) -> int | None:
    """Return the number from 0 to 999 that exactly these words say; None if they say none."""
    return _NUMBERS.get(tuple(words))


def _below_hundred(number: int) -> tuple[str, ...]:
    units, teens, tens = THEMES["units"], THEMES["teens"], THEMES["tens"]
    if number < 10:
        return (units[number],)
    if number < 20:
        return (teens[number - 10],)
    ten, unit = divmod(number, 10)
    return (tens[ten - 2], units[unit]) if unit else (tens[ten - 2],)


_NUMBERS = {number_words(number): number for number in range(1000)}
