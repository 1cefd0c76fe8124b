"""Conversion between units of length, mass, volume, temperature, speed, data and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction

from pydantic import JsonValue

from microturn.tools import Phrase, Spoken, ToolRetry, tool
from microturn.tools.builtin.number_words import digits_for_words
from microturn.tools.builtin.numerals import spoken_number, written_number


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit: `base value = value * factor + offset`."""

    kind: str
    singular: str
    plural: str
    factor: Fraction
    offset: Fraction = Fraction(0)


# Each line: names (the first is the singular, the second the plural that is spoken, then abbreviations) and the
# factor to the kind's base unit. The factors of customary units are exact by definition.
# Source: NIST Special Publication 811, appendix B; data prefixes IEC 80000-13.
_TABLE: dict[str, str] = {
    "length": """
        metre metres meter meters m = 1
        kilometre kilometres kilometer kilometers km = 1000
        centimetre centimetres centimeter centimeters cm = 1/100
        millimetre millimetres millimeter millimeters mm = 1/1000
        micrometre micrometres micrometer micrometers micron microns µm um = 1/1000000
        nanometre nanometres nanometer nanometers nm = 1/1000000000
        inch inches in " = 0.0254
        foot feet ft ' = 0.3048
        yard yards yd = 0.9144
        mile miles mi = 1609.344
        nautical_mile nautical_miles nmi = 1852
        light-year light-years lightyear lightyears ly = 9460730472580800
    """,
    "mass": """
        kilogram kilograms kg kilo kilos = 1
        gram grams g gramme grammes = 1/1000
        milligram milligrams mg = 1/1000000
        tonne tonnes t metric_ton metric_tons = 1000
        pound pounds lb lbs = 0.45359237
        ounce ounces oz = 0.028349523125
        stone stones st = 6.35029318
        short_ton short_tons us_ton us_tons ton tons = 907.18474
    """,
    "volume": """
        litre litres liter liters l = 1
        millilitre millilitres milliliter milliliters ml = 1/1000
        centilitre centilitres centiliter centiliters cl = 1/100
        decilitre decilitres deciliter deciliters dl = 1/10
        cubic_metre cubic_metres cubic_meter cubic_meters m3 m³ = 1000
        gallon gallons gal us_gallon us_gallons = 3.785411784
        quart quarts qt = 0.946352946
        pint pints pt us_pint us_pints = 0.473176473
        cup cups = 0.2365882365
        fluid_ounce fluid_ounces fl_oz floz = 0.0295735295625
        tablespoon tablespoons tbsp = 0.01478676478125
        teaspoon teaspoons tsp = 0.00492892159375
        imperial_gallon imperial_gallons uk_gallon uk_gallons = 4.54609
        imperial_pint imperial_pints uk_pint uk_pints = 0.56826125
    """,
    "temperature": """
        kelvin kelvin k kelvins = 1
        degree_Celsius degrees_Celsius celsius c °c centigrade degree_c degrees_c = 1 273.15
        degree_Fahrenheit degrees_Fahrenheit fahrenheit f °f degree_f degrees_f = 5/9 45967/180
    """,
    "speed": """
        metre_per_second metres_per_second meter_per_second meters_per_second m/s mps = 1
        kilometre_per_hour kilometres_per_hour kilometer_per_hour kilometers_per_hour km/h kmh kph = 5/18
        mile_per_hour miles_per_hour mph mi/h = 0.44704
        knot knots kn kt = 463/900
        foot_per_second feet_per_second ft/s fps = 0.3048
    """,
    "data": """
        byte bytes B = 1
        bit bits b = 1/8
        kilobyte kilobytes kB KB = 1000
        megabyte megabytes MB = 1000000
        gigabyte gigabytes GB = 1000000000
        terabyte terabytes TB = 1000000000000
        kilobit kilobits kbit kb = 125
        megabit megabits Mbit Mb = 125000
        gigabit gigabits Gbit Gb = 125000000
        kibibyte kibibytes KiB = 1024
        mebibyte mebibytes MiB = 1048576
        gibibyte gibibytes GiB = 1073741824
        tebibyte tebibytes TiB = 1099511627776
    """,
    "time": """
        second seconds s sec secs = 1
        millisecond milliseconds ms msec = 1/1000
        microsecond microseconds µs us = 1/1000000
        minute minutes min mins = 60
        hour hours h hr hrs = 3600
        day days d = 86400
        week weeks wk = 604800
        year years yr yrs = 31557600
    """,
}


def _read_table() -> dict[str, Unit]:
    units: dict[str, Unit] = {}
    for kind, lines in _TABLE.items():
        for line in lines.strip().splitlines():
            left, right = line.split(" = ")
            names = [name.replace("_", " ") for name in left.split()]
            factor, _, offset = right.partition(" ")
            unit = Unit(kind, names[0], names[1], Fraction(factor), Fraction(offset or 0))
            for name in names:
                units[name] = unit
    return units


_UNITS = _read_table()
_FOLDED: dict[str, Unit] = {}
for _name, _unit in _UNITS.items():
    _FOLDED.setdefault(_name.lower(), _unit)


def find_unit(name: str, parameter: str) -> Unit:
    """Return a unit by name, plural or abbreviation; case decides only where it must (`Mb`, `MB`).

    Raises:
        ToolRetry: there is none; the text names `parameter` and the units that are most like it.
    """
    plain = " ".join(name.replace("_", " ").strip().rstrip(".").split())
    unit = _UNITS.get(plain) or _FOLDED.get(plain.lower())
    if unit is None:
        close = get_close_matches(plain.lower(), list(_FOLDED), n=5)
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else "write one such as km, lb, cups, celsius or GB"
        )
        raise ToolRetry(f"`{parameter}` is not a unit of {', '.join(_TABLE)} that is known here; {hint}")
    return unit


def convert(value: Fraction, source: Unit, target: Unit) -> Fraction:
    """Convert a value exactly.

    Raises:
        ToolRetry: the units measure different things, or the temperature is below absolute zero.
    """
    if source.kind != target.kind:
        raise ToolRetry(f"{source.plural} measure {source.kind} and {target.plural} measure {target.kind}")
    base = value * source.factor + source.offset
    if source.kind == "temperature" and base < 0:
        raise ToolRetry("there is no temperature below absolute zero")
    return (base - target.offset) / target.factor


def _conversion(named: Mapping[str, str]) -> dict[str, JsonValue] | None:
    """The arguments that a phrase names; None where the value is no number."""
    said = digits_for_words(named["value"])
    try:
        value = 1.0 if said in {"a", "an"} else float(said)
    except ValueError:
        return None
    return {"value": value, "from_unit": named["source"], "to_unit": named["target"]}


_VALUE = r"{value} {source}"


@tool(
    timeout_s=5.0,
    phrases=[
        Phrase(f"(convert|change) {_VALUE} (to|into|in) {{target}}", _conversion),
        Phrase(f"(what is|what's|how much is) {_VALUE} in {{target}}", _conversion),
        Phrase(f"how many {{target}} (are|is) [(in|there in)] {_VALUE}", _conversion),
    ],
)
async def convert_units(value: float, from_unit: str, to_unit: str) -> Spoken:
    """Convert a value between units of length, mass, volume, temperature, speed, data or time.

    Args:
        value: How many of `from_unit`.
        from_unit: Name or abbreviation, such as miles, lb, celsius, km/h or GB.
        to_unit: Name or abbreviation of the unit wanted.
    """
    source, target = find_unit(from_unit, "from_unit"), find_unit(to_unit, "to_unit")
    try:
        exact = Fraction(str(value))
    except ValueError:
        raise ToolRetry("`value` must be a finite number") from None
    result = convert(exact, source, target)
    text = (
        f"{written_number(exact)} {_named(exact, source)} = {written_number(result)} {_named(result, target)}"
    )
    verb = "is" if abs(exact) == 1 or source.kind == "temperature" else "are"
    said = spoken_number(_rounded(result))
    about = "" if _rounded(result) == result or said.startswith("about") else "about "
    return Spoken(
        text=text,
        say=f"{_capital(spoken_number(exact))} {_named(exact, source)} {verb} {about}{said} {_named(result, target)}.",
    )


def _named(value: Fraction, unit: Unit) -> str:
    return unit.singular if abs(value) == 1 else unit.plural


def _rounded(value: Fraction) -> Fraction:
    """Round to what the ear takes in: one decimal from ten on, two below, more for less than one."""
    if abs(value) < 1:
        return Fraction(f"{float(value):.3g}")
    return Fraction(round(value * 10), 10) if abs(value) >= 10 else Fraction(round(value * 100), 100)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
