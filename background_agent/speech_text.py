"""Makes text for the ear out of text for the eye: no markup, no addresses, units and signs in words.

Knows English only and nothing of voices: digits stay digits, which every voice can read.
"""

from __future__ import annotations

import re

from microturn.background_agent.plain_text import one_line, plain_text
from microturn.background_agent.spoken_quantities import say_quantities

_LATEX_SPAN = re.compile(r"\$\$?([^$\n]*[\\^_][^$\n]*)\$\$?|\\[()\[\]]")
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_ROOT = re.compile(r"\\sqrt\{([^{}]*)\}")
_GREEK = "alpha beta gamma delta epsilon lambda mu pi sigma theta omega"
_LATEX_WORDS = {
    "times": "×",
    "cdot": "×",
    "div": "÷",
    "pm": "±",
    "approx": "≈",
    "leq": "≤",
    "le": "≤",
    "geq": "≥",
    "ge": "≥",
    "neq": "≠",
    "ne": "≠",
    "to": "→",
    "rightarrow": "→",
    "degree": "°",
    **{name: f"{name} " for name in _GREEK.split()},
}
_LATEX_COMMAND = re.compile(r"\\(?:text|mathrm|mathbf)\{([^{}]*)\}|\\([a-zA-Z]+)\s?")
_POWER = re.compile(r"(?<=[\w)])\s?\^\s?\{?(?P<power>[-−]?\w+)\}?")
_POWER_NAMES = {"2": " squared", "3": " cubed"}
_PARTS = {"½": "a half", "¼": "a quarter", "¾": "three quarters", "⅓": "a third", "⅔": "two thirds"}
_PART = re.compile(r"(?P<whole>\d)?\s?(?P<part>[½¼¾⅓⅔])")
_SHORT = (
    (re.compile(r"\be\.g\.,?\s", re.IGNORECASE), "for example "),
    (re.compile(r"\bi\.e\.,?\s", re.IGNORECASE), "that is "),
    (re.compile(r"\bvs\.?\s"), "versus "),
    (re.compile(r"\bapprox\.\s", re.IGNORECASE), "about "),
)
_SIGNS = (
    (re.compile(r"(?<=\d)\s-\s(?=\d)"), " minus "),
    (re.compile(r"(?<![\w.)])[-−](?=\d)"), "minus "),
    (re.compile(r"(?<=\d)\s?−\s?(?=\d)"), " minus "),
    (re.compile(r"(?<=[\w)])\s?[–—]\s?(?=\d)"), " to "),
    (re.compile(r"\s?%"), " percent"),
    (re.compile(r"(?<=[\d)])\s*[×*]\s*(?=[\d(])|\s*×\s*"), " times "),
    (re.compile(r"\s*÷\s*|(?<=\d)\s/\s(?=\d)"), " divided by "),
    (re.compile(r"(?<=[\w)])\s\+\s(?=[\w(])|(?<=[\w²³)])\+(?=\d)"), " plus "),
    (re.compile(r"\s*±\s*"), " plus or minus "),
    (re.compile(r"\s*≈\s*"), " is about "),
    (re.compile(r"(?<!\w)~\s?(?=[\d$€£])"), "about "),
    (re.compile(r"(?:(?<=\d)|(?<=\b\w))\s*(?:≤|<=)\s*"), " is at most "),
    (re.compile(r"(?:(?<=\d)|(?<=\b\w))\s*(?:≥|>=)\s*"), " is at least "),
    (re.compile(r"\s*(?:≤|<=)\s*"), " at most "),
    (re.compile(r"\s*(?:≥|>=)\s*"), " at least "),
    (re.compile(r"\s*(?:≠|!=)\s*"), " is not "),
    (re.compile(r"(?<=\w)\s<\s(?=[\w-])"), " is less than "),
    (re.compile(r"(?<=\w)\s>\s(?=[\w-])"), " is more than "),
    (re.compile(r"\s+==?\s+"), " is "),
    (re.compile(r"√\s?"), "the square root of "),
    (re.compile(r"(?<=\w)²"), " squared"),
    (re.compile(r"(?<=\w)³"), " cubed"),
    (re.compile(r"\s*(?:[→⇒➜]|->|=>)\s*"), " to "),
    (re.compile(r"(?<!\w)#(?=\d)"), "number "),
    (re.compile(r"\s&\s"), " and "),
    (re.compile(r"\s+[–—]\s+|(?<=\w)—(?=\w)|\s[·•]\s"), ", "),
    (re.compile("[\u200b\u2060\ufeff]"), ""),
)
_LONE_MARK = re.compile(r"\s+([.,!?;:])(?=\s|$)")
_MARKS = re.compile(r"([,;:])(?:\s*[,;:])+")


def to_speech(text: str) -> str:
    """One line of plain words that says what `text` shows; empty where there is nothing to say."""
    text = plain_text(_without_latex(text))
    words = " ".join(one_line(_in_words(text)).split())
    return _MARKS.sub(r"\1", _LONE_MARK.sub(r"\1", words)).strip()


def _without_latex(text: str) -> str:
    """Formulas with the signs that they stand for."""
    if "\\" not in text and "$" not in text:
        return text
    text = _LATEX_SPAN.sub(lambda found: found[1] or "", text)
    text = _ROOT.sub(r"√\1", _FRACTION.sub(r"\1 over \2", text))
    return _LATEX_COMMAND.sub(lambda found: found[1] or _LATEX_WORDS.get(found[2] or "", found[0]), text)


def _in_words(text: str) -> str:
    for pattern, words in _SHORT:
        text = pattern.sub(words, text)
    text = say_quantities(_PART.sub(_part, text))
    text = _POWER.sub(_power, text)
    for pattern, words in _SIGNS:
        text = pattern.sub(words, text)
    return text


def _part(found: re.Match[str]) -> str:
    name = _PARTS[found["part"]]
    return f"{found['whole']} and {name}" if found["whole"] else name


def _power(found: re.Match[str]) -> str:
    power = found["power"].replace("−", "-")
    return _POWER_NAMES.get(power, f" to the power of {power}")
