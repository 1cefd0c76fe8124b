"""Evaluates arithmetic as people write and say it, exactly and within bounds. Never runs the text as code.

Values are fractions, so that a tenth is a tenth; only roots and broken powers go through floating point.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from microturn.tools import ToolRetry
from microturn.tools.builtin.number_words import digits_for_words

LIMIT_CHARS = 200
LIMIT_BITS = 4096
"""Largest numerator or denominator: about 1,200 digits."""

_SCALES = (
    (r"[$€£]", ""),
    (r"(?<=\d),(?=\d{3}(?!\d))", ""),
    (r"(\d+(?:\.\d+)?)\s*thousand\b", r"(\1*10**3)"),
    (r"(\d+(?:\.\d+)?)\s*million\b", r"(\1*10**6)"),
    (r"(\d+(?:\.\d+)?)\s*billion\b", r"(\1*10**9)"),
)
"""Signs around digits, and scale words after them; rewritten before number words, which would make two numbers."""
_PHRASES = (
    (r"\bwhat(?:'s| is)\b|\bcalculate\b|\bcompute\b|[=?]\s*$", " "),
    (r"[×·]|(?<=\d)\s*x\s*(?=\d)|\btimes\b|\bmultiplied by\b", "*"),
    (r"÷|\bdivided by\b|\bover\b", "/"),
    (r"[−–]|\bminus\b", "-"),
    (r"\bplus\b", "+"),
    (r"\bmodulo\b|\bmod\b", "% "),
    (r"\^|\b(?:raised )?to the power of\b", "**"),
    (r"\bsquared\b", "**2"),
    (r"\bcubed\b", "**3"),
    (r"\b(?:the )?square root of\s*(\d+(?:\.\d+)?)", r"sqrt(\1)"),
    (r"\b(?:the )?square root of\b|√", "sqrt"),
    (r"\bhalf of\b", "0.5*"),
    (r"\bper ?cent\b", "%"),
    (r"(\d+(?:\.\d+)?|\.\d+)\s*%\s*of\b", r"percent(\1)*"),
    (r"(\d+(?:\.\d+)?|\.\d+)\s*%(?=\s*(?:$|[-+*/)]))", r"percent(\1)"),
)
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)|(sqrt|percent|abs|round|pi)\b|(\*\*|//|[-+*/%(),]))")

_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda a, b: Fraction(a // b),
    ast.Mod: operator.mod,
    ast.Pow: lambda a, b: _power(a, b),
}
_FUNCTIONS: dict[str, Callable[[Fraction], Fraction]] = {
    "abs": abs,
    "percent": lambda a: a / 100,
    "round": lambda a: Fraction(round(a)),
    "sqrt": lambda a: _root(a),
}


def evaluate(text: str) -> Fraction:
    """Return the value of an expression.

    `+ - * / // % **`, parentheses, sqrt, abs, round, pi; "15% of 240" and "200 + 10%" as on a pocket calculator;
    "times", "divided by" and number words. `%` before a number or a parenthesis is the remainder.

    Raises:
        ToolRetry: it is not such an expression, or its value is out of bounds.
    """
    try:
        return _value(ast.parse(_normalised(text), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        raise ToolRetry("this is not an arithmetic expression; write it like 2 * (3 + 4)") from None
    except ZeroDivisionError:
        raise ToolRetry("this divides by zero") from None
    except OverflowError:
        raise ToolRetry("the result is too large") from None


def _normalised(text: str) -> str:
    """Rewrite phrases and check each token, so that only digits, operators and known names are parsed."""
    if len(text) > LIMIT_CHARS:
        raise ToolRetry(f"the expression is longer than {LIMIT_CHARS} characters")
    text = text.lower().strip().rstrip(".")
    for pattern, replacement in _SCALES:
        text = re.sub(pattern, replacement, text)
    text = digits_for_words(text)
    for pattern, replacement in _PHRASES:
        text = re.sub(pattern, replacement, text)
    tokens, position = [], 0
    text = text.strip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ToolRetry(
                f"cannot read the expression from character {position + 1}; use digits and + - * / // % ** ( ) sqrt"
            )
        number, name, sign = found.groups()
        tokens.append((number.lstrip("0") or "0") if number else name or sign)
        position = found.end()
    return " ".join(tokens)


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number):
            return _bounded(Fraction(str(number)))
        case ast.Name(id="pi"):
            return Fraction(math.pi)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name](_value(argument)))
        case ast.BinOp(
            left=left, op=ast.Add() | ast.Sub() as op, right=ast.Call(func=ast.Name(id="percent")) as share
        ):
            base = _value(left)
            return _bounded(_OPERATORS[type(op)](base, base * _value(share)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _bounded(_OPERATORS[type(op)](_value(left), _value(right)))
    raise SyntaxError


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > LIMIT_BITS:
        raise OverflowError
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        if base < 0:
            raise ToolRetry("a negative number has no real root")
        return Fraction(float(base) ** float(exponent))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(base) != 1 and base != 0 and (bits - 1) * abs(exponent) > LIMIT_BITS:
        raise OverflowError
    return Fraction(base ** int(exponent))


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise ToolRetry("a negative number has no real square root")
    exact = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    return exact if exact * exact == value else Fraction(math.sqrt(value))
