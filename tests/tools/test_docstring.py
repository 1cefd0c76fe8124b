"""Reading of Google style docstrings."""

from __future__ import annotations

import pytest

from microturn.tools.docstring import Docstring, parse_docstring

pytestmark = pytest.mark.unit


def test_description_and_arguments_are_told_apart_from_the_other_sections() -> None:
    text = """Book a table.

        By telephone.

        Args:
            where: Name: of the place,
                or its number.
            when (str, optional): The hour.

            who:

        Returns:
            what: not an argument.
        """

    assert parse_docstring(text) == Docstring(
        "Book a table.\n\nBy telephone.",
        {"where": "Name: of the place, or its number.", "when": "The hour.", "who": ""},
    )


def test_a_docstring_without_sections_is_all_description() -> None:
    assert parse_docstring("One line.") == Docstring("One line.", {})
    assert parse_docstring("") == Docstring("", {})
