"""From HTML to text, also where the HTML is broken or made to be slow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microturn.tools.builtin.readable import ReadableText, readable_text

pytestmark = pytest.mark.unit


def test_headings_paragraphs_lists_and_tables_are_kept_and_the_rest_is_left_out() -> None:
    page = """<!doctype html><html><head><title> The
      page </title><style>p {}</style><script>if (a < b) {}</script></head>
      <body><nav><a href=/>Home</a></nav><!-- hidden --><h1>One</h1><p>First <b>bold</b>
      line.<br>Second &lt;line&gt;.<ul><li>a<li>b</ul><table><tr><td>1<td>2</table><footer>Legal</footer>"""

    assert readable_text(page) == ReadableText(
        "The page", "# One\n\nFirst bold line.\n\nSecond <line>.\n\n- a\n- b\n\n1 2"
    )


def test_navigation_that_is_never_closed_does_not_swallow_the_page() -> None:
    assert readable_text("<nav><p>All that there is").text == "All that there is"


@pytest.mark.parametrize(
    "html", ["", "<", "<![", "<!-- never closed <p>text", "<![CDATA[x]]>", "a < b & c", "</p>", "<p"]
)
def test_broken_html_never_raises(html: str) -> None:
    assert isinstance(readable_text(html).text, str)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["<", ">", "!", "--", "/", "p", "nav", "script", "title", " ", '"', "=", "&#", "[", "?", "x"]
        )
    )
)
def test_no_mixture_of_pieces_of_html_raises(pieces: list[str]) -> None:
    assert isinstance(readable_text("".join(pieces)), ReadableText)


@pytest.mark.parametrize(
    "unit", ["<", "<a", "<!", "<![", "<!--", "</", "<nav>", "<a b='", "</aside><nav>", "&#", "<li>x"]
)
def test_repeated_pieces_take_time_in_proportion_to_their_length(unit: str) -> None:
    # Quadratic time would take minutes and run into the time limit of the test.
    readable_text(unit * (300_000 // len(unit)) + ">")
