"""Numbers as text for the eye and for the ear. Knows nothing of units."""

from __future__ import annotations

from fractions import Fraction

_EXACT_DIGITS = 60
_WRITTEN_DIGITS = 12
_SPOKEN_DIGITS = 5
_SPOKEN_WHOLE_LIMIT = 10**15


def written_number(value: Fraction) -> str:
    """Write a number: whole ones in full up to 60 digits, others to 12 significant digits."""
    if value.denominator == 1 and len(str(abs(value.numerator))) <= _EXACT_DIGITS:
        return str(value.numerator)
    return _significant(value, _WRITTEN_DIGITS)


def spoken_number(value: Fraction) -> str:
    """Say a number: "816", "about 1.4142", "about 1.2677 times 10 to the power of 30"."""
    if value.denominator == 1 and abs(value) < _SPOKEN_WHOLE_LIMIT:
        return str(value.numerator) if value >= 0 else f"minus {-value.numerator}"
    digits = (
        max(_SPOKEN_DIGITS, len(str(int(abs(value)))) + 2)
        if abs(value) < _SPOKEN_WHOLE_LIMIT
        else _SPOKEN_DIGITS
    )
    short = _significant(abs(value), digits)
    sign = "minus " if value < 0 else ""
    about = "" if "e" not in short and Fraction(short) == abs(value) else "about "
    mantissa, _, exponent = short.partition("e")
    return f"{about}{sign}{mantissa}" + (
        f" times 10 to the power of {int(exponent)}".replace("-", "minus ") if exponent else ""
    )


def _significant(value: Fraction, digits: int) -> str:
    """Round to significant digits, without trailing zeros; powers of ten where they shorten it."""
    try:
        return f"{float(value):.{digits}g}"
    except OverflowError:
        whole = str(int(value))
        sign, figures = ("-", whole[1:]) if value < 0 else ("", whole)
        return f"{sign}{figures[0]}.{figures[1:digits]}e+{len(figures) - 1}"
