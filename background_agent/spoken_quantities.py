"""Says quantities in words: units, money, dates, ranges of them. Numbers stay digits, which every voice can read.

Knows English only, and nothing of markup.
"""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {
    "km": ("kilometre", "kilometres"),
    "m": ("metre", "metres"),
    "cm": ("centimetre", "centimetres"),
    "mm": ("millimetre", "millimetres"),
    "µm": ("micrometre", "micrometres"),
    "nm": ("nanometre", "nanometres"),
    "mi": ("mile", "miles"),
    "ft": ("foot", "feet"),
    "ha": ("hectare", "hectares"),
    "kg": ("kilogram", "kilograms"),
    "g": ("gram", "grams"),
    "mg": ("milligram", "milligrams"),
    "µg": ("microgram", "micrograms"),
    "t": ("tonne", "tonnes"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "l": ("litre", "litres"),
    "L": ("litre", "litres"),
    "dl": ("decilitre", "decilitres"),
    "cl": ("centilitre", "centilitres"),
    "ml": ("millilitre", "millilitres"),
    "mL": ("millilitre", "millilitres"),
    "h": ("hour", "hours"),
    "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"),
    "min": ("minute", "minutes"),
    "mins": ("minute", "minutes"),
    "s": ("second", "seconds"),
    "sec": ("second", "seconds"),
    "ms": ("millisecond", "milliseconds"),
    "kcal": ("kilocalorie", "kilocalories"),
    "kJ": ("kilojoule", "kilojoules"),
    "kWh": ("kilowatt hour", "kilowatt hours"),
    "kW": ("kilowatt", "kilowatts"),
    "MW": ("megawatt", "megawatts"),
    "W": ("watt", "watts"),
    "V": ("volt", "volts"),
    "mAh": ("milliamp hour", "milliamp hours"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "dB": ("decibel", "decibels"),
    "hPa": ("hectopascal", "hectopascals"),
    "bar": ("bar", "bar"),
    "kB": ("kilobyte", "kilobytes"),
    "KB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"),
    "Mbit": ("megabit", "megabits"),
    "Gbit": ("gigabit", "gigabits"),
    "l/100 km": ("litre per 100 kilometres", "litres per 100 kilometres"),
    "kWh/100 km": ("kilowatt hour per 100 kilometres", "kilowatt hours per 100 kilometres"),
    "mph": ("mile per hour", "miles per hour"),
    "km/h": ("kilometre per hour", "kilometres per hour"),
    "kph": ("kilometre per hour", "kilometres per hour"),
    "mpg": ("mile per gallon", "miles per gallon"),
    "rpm": ("revolution per minute", "revolutions per minute"),
    "fps": ("frame per second", "frames per second"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "ppm": ("part per million", "parts per million"),
}
_NEEDS_SPACE = frozenset({"s", "t", "V", "W", "ft", "bar", "ha", "mi"})
"""Units that mean something else right behind a number, as in 1990s."""
_POWERS = {"²": "square ", "³": "cubic ", "^2": "square ", "^3": "cubic "}
_PER = ("second", "minute", "hour", "day", "night", "week", "month", "year", "person", "item", "piece")
_CURRENCIES: Final = {
    "$": ("dollar", "dollars"),
    "€": ("euro", "euros"),
    "£": ("pound", "pounds"),
    "¥": ("yen", "yen"),
    "₹": ("rupee", "rupees"),
    "₩": ("won", "won"),
    "USD": ("dollar", "dollars"),
    "EUR": ("euro", "euros"),
    "GBP": ("pound", "pounds"),
    "JPY": ("yen", "yen"),
    "CHF": ("Swiss franc", "Swiss francs"),
}
_SCALES: Final = {
    "k": "thousand",
    "K": "thousand",
    "m": "million",
    "M": "million",
    "bn": "billion",
    "B": "billion",
}
_MONTH_NAMES = "January February March April May June July August September October November December"
_MONTHS = _MONTH_NAMES.split()

_NUMBER = r"\d{1,15}(?:,\d{3}){0,5}(?:\.\d{1,15})?"
_SPAN = rf"(?:(?P<low>{_NUMBER})\s?(?:-|–|—|to)\s?)?"
"""The lower end of a range, where there is one."""
_SIGN = "[$€£¥₹₩]"
_SCALE = r"(?P<scale>\s?(?:thousand|million|billion|trillion)\b|(?:bn|[kKmMB])(?!\w))?"
_MONEY_BEFORE = re.compile(
    rf"(?:(?P<also>{_SIGN})\s?(?P<low>{_NUMBER})\s?[-–—]\s?)?(?:US|A|C)?"
    rf"(?P<sign>{_SIGN}|\b(?:USD|EUR|GBP|JPY|CHF)\s)\s?{_SPAN.replace('<low>', '<inner>')}(?P<number>{_NUMBER}){_SCALE}"
)
_MONEY_AFTER = re.compile(
    rf"{_SPAN}(?P<number>{_NUMBER}){_SCALE}\s?(?P<sign>{_SIGN}(?!\w)|(?:USD|EUR|GBP|JPY|CHF)\b)"
)
_UNIT_NAMES = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_UNIT = re.compile(
    rf"{_SPAN}(?P<number>{_NUMBER})(?P<space>[\s\u00a0\u202f]?)(?P<unit>{_UNIT_NAMES})(?P<power>[²³]|\^[23])?"
    rf"(?:/(?P<per>{_UNIT_NAMES})(?P<per_power>[²³])?)?(?![\w/'’²³^])"
)
_PER_WORD = re.compile(rf"(?<=[a-z])\s?/\s?(?P<per>{_UNIT_NAMES}|{'|'.join(_PER)})(?P<power>[²³])?(?![\w/])")
_DATE = re.compile(
    r"(?<![\w.-])(?P<year>[12]\d{3})-(?P<month>0[1-9]|1[0-2])-(?P<day>0[1-9]|[12]\d|3[01])"
    r"(?:[T ](?P<time>[0-2]\d:[0-5]\d)(?::\d\d(?:\.\d+)?)?(?:Z|\s?[+-]\d\d:?\d\d)?)?(?![\w-])"
)
_DEGREES = re.compile(
    rf"{_SPAN}(?P<number>[-−]?{_NUMBER})?\s?(?:°\s?(?P<scale>[CF])?|(?P<joined>[℃℉]))(?!\w)"
)
_SCALE_NAMES = {
    "C": " degrees Celsius",
    "F": " degrees Fahrenheit",
    "℃": " degrees Celsius",
    "℉": " degrees Fahrenheit",
}
_PERCENT = re.compile(rf"{_SPAN}(?P<number>{_NUMBER})\s?%")


def say_quantities(text: str) -> str:
    """The text with its quantities in words; ranges of them are said with `to`."""
    text = _DATE.sub(_date, text)
    text = _MONEY_AFTER.sub(_money, _MONEY_BEFORE.sub(_money, text))
    text = _PERCENT.sub(lambda found: f"{_numbers(found)} percent", text)
    text = _DEGREES.sub(_degrees, text)
    text = _UNIT.sub(_unit, text)
    return _PER_WORD.sub(lambda found: f" per {_one(found['per'], found['power'])}", text)


def _numbers(found: re.Match[str]) -> str:
    """The number of a quantity, or its range."""
    groups = found.groupdict()
    low = groups.get("low") or groups.get("inner")
    return f"{low} to {found['number']}" if low else str(found["number"] or "")


def _date(found: re.Match[str]) -> str:
    day = f"{int(found['day'])} {_MONTHS[int(found['month']) - 1]} {found['year']}"
    return f"{day} at {found['time']}" if found["time"] else day


def _money(found: re.Match[str]) -> str:
    one, many = _CURRENCIES[found["sign"].strip()]
    scale = (found["scale"] or "").strip()
    numbers = _numbers(found)
    name = one if numbers == "1" and not scale else many
    return " ".join(filter(None, (numbers, _SCALES.get(scale, scale), name)))


def _degrees(found: re.Match[str]) -> str:
    name = _SCALE_NAMES.get(found["scale"] or found["joined"] or "", " degrees")
    space = " " if found[0][0].isspace() and not found["number"] else ""
    return f"{space}{_numbers(found)}{name}" if found["number"] else name


def _unit(found: re.Match[str]) -> str:
    unit = found["unit"]
    if unit in _NEEDS_SPACE and not found["space"] and not found["per"] and not found["power"]:
        return found[0]
    numbers = _numbers(found)
    one, many = _UNITS[unit]
    said = f"{numbers} {_POWERS.get(found['power'] or '', '')}{one if numbers == '1' else many}"
    return f"{said} per {_one(found['per'], found['per_power'])}" if found["per"] else said


def _one(per: str, power: str | None) -> str:
    one, _ = _UNITS.get(per, (per, per))
    return f"{_POWERS.get(power or '', '')}{one}"
