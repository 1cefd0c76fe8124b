"""The calculator: what people write and say, exactly, within bounds, and never as code."""

from __future__ import annotations

from fractions import Fraction

import pytest

from microturn.tools import ToolRetry
from microturn.tools.builtin.arithmetic import evaluate
from microturn.tools.builtin.calculator import calculator

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("48 * 17", 816),
        ("48 × 17 =", 816),
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("-2 ** 2", -4),
        ("7 // 2", 3),
        ("17 % 5", 2),
        ("2 ^ 10", 1024),
        ("1,234,567 + 1", 1_234_568),
        ("0.1 + 0.2", "3/10"),
        ("007 + 1", 8),
        ("15% of 240", 36),
        ("15 percent of 240 plus 10", 46),
        ("10 + 15% of 240", 46),
        ("200 + 10%", 220),
        ("200 - 10%", 180),
        ("50% * 3", "3/2"),
        ("sqrt(144)", 12),
        ("sqrt(2.25)", "3/2"),
        ("abs(-3) + round(2.6)", 6),
        ("What is 12 divided by 8?", "3/2"),
        ("5 squared", 25),
        ("the square root of 81", 9),
        ("1 / 3 * 3", 1),
        ("4 x 3", 12),
        ("6 / 2 million", "3/1000000"),
        ("15% of 1.5 million", 225_000),
        ("$20 + $5", 25),
        ("1,500 thousand", 1_500_000),
    ],
)
def test_written_arithmetic_is_worked_out_exactly(text: str, value: int | str) -> None:
    assert evaluate(text) == Fraction(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("forty eight times seventeen", "816"),
        ("fifteen percent of two hundred and forty", "36"),
        ("three thousand two hundred and five minus five", "3200"),
        ("two million over four", "500000"),
        ("three point one four plus one", "4.14"),
        ("twenty-one plus a hundred", None),
        ("twenty-one plus one hundred", "121"),
    ],
)
def test_number_words_are_understood(text: str, value: str | None) -> None:
    if value is None:
        with pytest.raises(ToolRetry):
            evaluate(text)
    else:
        assert evaluate(text) == Fraction(value)


def test_an_irrational_root_is_close() -> None:
    assert abs(float(evaluate("sqrt(2)")) - 2**0.5) < 1e-15


@pytest.mark.parametrize(
    "text",
    [
        "9 ** 9 ** 9",
        "10 ** 5000",
        "2 ** -99999",
        "(" * 99 + "1",
        "1 / 0",
        "5 % 0",
        "0 ** -1",
        "sqrt(-1)",
        "(-8) ** 0.5",
    ],
)
def test_huge_or_impossible_values_are_refused_at_once(text: str) -> None:
    with pytest.raises(ToolRetry):
        evaluate(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "__import__('os')",
        "1 if 1 else 2",
        "[1]*9",
        "2(3)",
        "sqrt",
        "sqrt(1,2)",
        "lambda: 1",
        "1 +",
        "pi()",
    ],
)
def test_whatever_is_not_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ToolRetry):
        evaluate(text)


def test_a_long_expression_is_refused() -> None:
    with pytest.raises(ToolRetry, match="200"):
        evaluate("1+" * 200 + "1")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("expression", "text", "say"),
    [
        ("48 * 17", "48 * 17 = 816", "48 times 17 is 816."),
        ("15% of 240", "15% of 240 = 36", "15 percent of 240 is 36."),
        ("10 - 4", "10 - 4 = 6", "10 minus 4 is 6."),
        ("3 - 10", "3 - 10 = -7", "3 minus 10 is minus 7."),
        ("1 / 3", "1 / 3 = 0.333333333333", "1 divided by 3 is about 0.33333."),
        ("7 / 2", "7 / 2 = 3.5", "7 divided by 2 is 3.5."),
        ("(2 + 3) * 4", "(2 + 3) * 4 = 20", "The result is 20."),
        ("2 ** 100", "2 ** 100 = 1267650600228229401496703205376", None),
        ("10 / 4 * 1000.5", "10 / 4 * 1000.5 = 2501.25", "10 divided by 4 times 1000.5 is 2501.25."),
    ],
)
async def test_the_result_is_written_and_said(expression: str, text: str, say: str | None) -> None:
    result = await calculator(expression)

    assert result.text == text
    expected = say or "2 to the power of 100 is about 1.2677 times 10 to the power of 30."
    assert result.say == expected
