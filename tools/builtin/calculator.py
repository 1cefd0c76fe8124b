"""The calculator tool."""

from __future__ import annotations

import re
from fractions import Fraction

from microturn.tools import Spoken, tool
from microturn.tools.builtin.arithmetic import evaluate
from microturn.tools.builtin.numerals import spoken_number, written_number

_WORDS = {
    "**": " to the power of ",
    "*": " times ",
    "×": " times ",
    "//": " divided by ",
    "/": " divided by ",
}
_LONGEST_REPEATED = 40


@tool(
    timeout_s=5.0,
    phrases=["(what is|what's|calculate|work out|compute|how much is) {expression}"],
)
async def calculator(expression: str) -> Spoken:
    """Work out an arithmetic expression exactly, such as 48 * 17, 15% of 240 or sqrt(2) / 3.

    Args:
        expression: The expression, with + - * / // % ** and parentheses; sqrt, abs, round and pi are known.
    """
    value = evaluate(expression)
    return Spoken(text=f"{expression.strip()} = {written_number(value)}", say=_sentence(expression, value))


def _sentence(expression: str, value: Fraction) -> str:
    """Say a short plain expression again with its value; of a long or involved one, the value alone."""
    short = len(expression) <= _LONGEST_REPEATED and not re.search(
        r"[()=?√^÷]|//|\d\s*%\s*\d|[a-z]{9,}", expression
    )
    said = expression.strip().lower()
    for sign, words in _WORDS.items():
        said = said.replace(sign, words)
    said = re.sub(r"(?<=[\d\s])-(?=[\d\s])", " minus ", said).replace("+", " plus ").replace("%", " percent")
    result = spoken_number(value)
    plain = " ".join(said.split())
    return (
        f"{plain[:1].upper()}{plain[1:]} is {result}."
        if short and plain[:1].isdigit()
        else f"The result is {result}."
    )
