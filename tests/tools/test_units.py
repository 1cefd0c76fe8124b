"""Unit conversion against figures that are exact by definition or well known."""

from __future__ import annotations

import pytest

from microturn.tools import ToolRetry
from microturn.tools.builtin.units import convert_units

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.mark.parametrize(
    ("value", "source", "target", "text"),
    [
        (1, "inch", "cm", "1 inch = 2.54 centimetres"),
        (26.2, "miles", "Kilometers", "26.2 miles = 42.1648128 kilometres"),
        (5, "feet", "in", "5 feet = 60 inches"),
        (1, "nautical mile", "m", "1 nautical mile = 1852 metres"),
        (10, "lbs", "kg", "10 pounds = 4.5359237 kilograms"),
        (1, "stone", "lb", "1 stone = 14 pounds"),
        (2, "cups", "tbsp", "2 cups = 32 tablespoons"),
        (1, "gallon", "quarts", "1 gallon = 4 quarts"),
        (8, "uk pints", "imperial gallons", "8 imperial pints = 1 imperial gallon"),
        (212, "°F", "celsius", "212 degrees Fahrenheit = 100 degrees Celsius"),
        (0, "K", "C", "0 kelvin = -273.15 degrees Celsius"),
        (-40, "degrees celsius", "F", "-40 degrees Celsius = -40 degrees Fahrenheit"),
        (36, "km/h", "m/s", "36 kilometres per hour = 10 metres per second"),
        (1, "knot", "kph", "1 knot = 1.852 kilometres per hour"),
        (8, "Mb", "MB", "8 megabits = 1 megabyte"),
        (1, "GiB", "MiB", "1 gibibyte = 1024 mebibytes"),
        (2, "gb", "mb", "2 gigabytes = 2000 megabytes"),
        (90, "min", "hours", "90 minutes = 1.5 hours"),
        (2, "weeks", "d", "2 weeks = 14 days"),
    ],
)
async def test_a_value_is_converted(value: float, source: str, target: str, text: str) -> None:
    assert (await convert_units(value, source, target)).text == text


@pytest.mark.parametrize(
    ("value", "source", "target", "say"),
    [
        (5, "miles", "km", "5 miles are about 8.05 kilometres."),
        (1, "mile", "feet", "1 mile is 5280 feet."),
        (70, "f", "c", "70 degrees Fahrenheit is about 21.1 degrees Celsius."),
        (-10, "c", "f", "Minus 10 degrees Celsius is 14 degrees Fahrenheit."),
        (3, "mm", "km", "3 millimetres are about 3 times 10 to the power of minus 6 kilometres."),
    ],
)
async def test_the_result_is_said_with_as_many_digits_as_the_ear_takes_in(
    value: float, source: str, target: str, say: str
) -> None:
    assert (await convert_units(value, source, target)).say == say


@pytest.mark.parametrize(
    ("value", "source", "target", "hint"),
    [
        (1, "parsnips", "m", "`from_unit`"),
        (1, "m", "furlong", "`to_unit`"),
        (1, "kilomters", "m", "kilometers"),
        (1, "kg", "m", "mass"),
        (-300, "c", "f", "absolute zero"),
        (float("nan"), "m", "km", "finite"),
        (float("inf"), "m", "km", "finite"),
    ],
)
async def test_what_cannot_be_converted_is_explained(
    value: float, source: str, target: str, hint: str
) -> None:
    with pytest.raises(ToolRetry, match=hint):
        await convert_units(value, source, target)
