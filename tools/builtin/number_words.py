"""English number words as digits: "two hundred and forty" becomes "240". Knows nothing of arithmetic."""

from __future__ import annotations

import re

_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_UNITS = {word: value for value, word in enumerate(_SMALL)} | {
    word: 20 + 10 * i for i, word in enumerate(_TENS)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NUMBER = "|".join([*_UNITS, "hundred", *_SCALES])
_RUN = re.compile(
    rf"\b(?:{_NUMBER})(?:(?:[\s-]+and)?[\s-]+(?:{_NUMBER}))*(?:\s+point(?:\s+(?:{'|'.join(_SMALL[:10])}))+)?\b"
)


def digits_for_words(text: str) -> str:
    """Replace each run of number words in lower-case text by its digits."""
    return _RUN.sub(lambda found: _value(found[0]), text)


def _value(run: str) -> str:
    whole, _, fraction = run.partition(" point ")
    total = group = 0
    for word in re.split(r"[\s-]+", whole):
        if word in _UNITS:
            group += _UNITS[word]
        elif word == "hundred":
            group = max(group, 1) * 100
        elif word in _SCALES:
            total += max(group, 1) * _SCALES[word]
            group = 0
    decimals = "".join(str(_UNITS[word]) for word in fraction.split())
    return f"{total + group}.{decimals}" if decimals else str(total + group)
