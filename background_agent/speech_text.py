"""Makes text for the ear out of text for the eye: no markup, no addresses, units and signs in words.

Knows English only and nothing of voices: digits stay digits, which every voice can read.
"""

from __future__ import annotations

import re

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_ADDRESS = re.compile(r"<?\bhttps?://(?:www\.)?([a-z0-9-]+(?:\.[a-z0-9-]+)+)[^\s>)\]]*>?", re.IGNORECASE)
_LINE_MARK = re.compile(r"^\s*(?:#{1,6}\s+|>\s?|[-*+•]\s+|\d{1,3}[.)]\s+)", re.MULTILINE)
_RULE = re.compile(r"^\s*(?:[-*_]\s*){3,}$|^\s*\|?[\s:|-]*-{3,}[\s:|-]*$", re.MULTILINE)
_TABLE_EDGE = re.compile(r"^[ \t]*\|[ \t]*|[ \t]*\|[ \t]*$", re.MULTILINE)
_LONE_MARK = re.compile(r"\s+([.,!?;:])(?=\s|$)")
_EMPHASIS = re.compile(r"(\*\*|__|\*|~~|`)(?=\S)(.+?)(?<=\S)\1")
_UNDERSCORES = re.compile(r"(?<!\w)_(?=\S)(.+?)(?<=\S)_(?!\w)")
_TAG = re.compile(r"</?[a-zA-Z][^>]*>")
_PICTURE = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f\u200d]")

_UNITS = {
    "km/h": ("kilometre per hour", "kilometres per hour"),
    "m/s": ("metre per second", "metres per second"),
    "mph": ("mile per hour", "miles per hour"),
    "kWh": ("kilowatt hour", "kilowatt hours"),
    "km": ("kilometre", "kilometres"),
    "cm": ("centimetre", "centimetres"),
    "mm": ("millimetre", "millimetres"),
    "kg": ("kilogram", "kilograms"),
    "mg": ("milligram", "milligrams"),
    "ml": ("millilitre", "millilitres"),
    "GB": ("gigabyte", "gigabytes"),
    "MB": ("megabyte", "megabytes"),
    "min": ("minute", "minutes"),
    "hPa": ("hectopascal", "hectopascals"),
    "m": ("metre", "metres"),
    "g": ("gram", "grams"),
    "l": ("litre", "litres"),
    "L": ("litre", "litres"),
    "h": ("hour", "hours"),
}
_UNIT = re.compile(r"(?P<number>\d[\d,.]*)\s?(?P<unit>" + "|".join(map(re.escape, _UNITS)) + r")(?![\w/'’])")
_MONEY = re.compile(
    r"(?P<sign>[$€£¥])\s?(?P<number>\d[\d,]*(?:\.\d+)?)(?P<scale>\s?(?:thousand|million|billion))?"
)
_MONEY_AFTER = re.compile(r"(?P<number>\d[\d,]*(?:\.\d+)?)(?P<scale>)\s?(?P<sign>[$€£¥])(?!\w)")
_CURRENCIES = {
    "$": ("dollar", "dollars"),
    "€": ("euro", "euros"),
    "£": ("pound", "pounds"),
    "¥": ("yen", "yen"),
}
_DEGREES = re.compile(r"\s?°\s?(?P<scale>[CF])?(?!\w)")
_SCALES = {"C": " degrees Celsius", "F": " degrees Fahrenheit", None: " degrees"}
_SIGNS = (
    (re.compile(r"(?<![\w.])[-−](?=\d)"), "minus "),
    (re.compile(r"(?<=\d)\s?[–—]\s?(?=\d)"), " to "),
    (re.compile(r"\s?%"), " percent"),
    (re.compile(r"(?<=[\d)])\s*[×*]\s*(?=[\d(])"), " times "),
    (re.compile(r"(?<=[\d)])\s*÷\s*(?=[\d(])"), " divided by "),
    (re.compile(r"(?<=[\d)])\s\+\s(?=[\d(])"), " plus "),
    (re.compile(r"\s*≈\s*"), " is about "),
    (re.compile(r"\s+=\s+"), " is "),
    (re.compile(r"\s*[→⇒]\s*"), " to "),
    (re.compile(r"\s&\s"), " and "),
    (re.compile(r"\s+[–—]\s+|(?<=\w)—(?=\w)"), ", "),
)


def to_speech(text: str) -> str:
    """One line of plain words that says what `text` shows; empty where there is nothing to say."""
    words = " ".join(_in_words(_without_markup(text)).split())
    return _LONE_MARK.sub(r"\1", words)


def _without_markup(text: str) -> str:
    text = _FENCE.sub(" ", text)
    text = _LINK.sub(r"\1", _IMAGE.sub(r"\1", text))
    text = _ADDRESS.sub(r"\1", text)
    text = _RULE.sub("", text)
    text = _LINE_MARK.sub("", text)
    for _ in range(3):  # Bold within italics within code is as deep as it goes.
        text = _EMPHASIS.sub(r"\2", text)
    text = _UNDERSCORES.sub(r"\1", text)
    text = _PICTURE.sub("", _TAG.sub("", text))
    text = _TABLE_EDGE.sub("", text)
    return re.sub(r"\s*\|\s*", ", ", text).replace("`", "")


def _in_words(text: str) -> str:
    text = _MONEY_AFTER.sub(_money, _MONEY.sub(_money, text))
    text = _DEGREES.sub(lambda found: _SCALES[found["scale"]], text)
    text = _UNIT.sub(_unit, text)
    for pattern, words in _SIGNS:
        text = pattern.sub(words, text)
    return text


def _money(found: re.Match[str]) -> str:
    one, many = _CURRENCIES[found["sign"]]
    scale = (found["scale"] or "").strip()
    name = one if found["number"] == "1" and not scale else many
    return " ".join(filter(None, (found["number"], scale, name)))


def _unit(found: re.Match[str]) -> str:
    one, many = _UNITS[found["unit"]]
    return f"{found['number']} {one if found['number'] == '1' else many}"
