"""Frames what a tool returned, so that a model can tell data from instructions.

The text of a web page or a document may try to close its frame or to pose as the user; nothing in it can, because
whatever looks like the frame, or like a mark by which models tell roles apart, is broken up.
"""

from __future__ import annotations

import re
import unicodedata

from microturn.background_agent.transcript import Outcome
from microturn.tools.text import cap, clean

_OPENING = "<＜﹤‹〈⟨〈❬❮❰˂ᐸ⋖≺《«"
"""What is, or looks like, the beginning of a tag."""
_SLASHES = "/／⁄∕⧸"
_BARS = "|｜∣ǀ❘￨"
_MARKS = r"\s\u0300-\u036f"
"""What may stand between the signs of a tag without being seen."""
_TAG_LIKE = re.compile(rf"[{_OPENING}](?=[{_OPENING}{_MARKS}]*[{_SLASHES}]?[{_MARKS}]*([^\s\"'=]{{1,40}}))")
_ROLE_TAG = re.compile(
    r"(\w+[:.])?("
    r"results?|tools?|(tool|function)s?[_-](calls?|results?|uses?|responses?|outputs?)|functions?|invoke|parameter|"
    r"system|sys|user|human|assistant|developer|model|instructions?|messages?|think(ing)?|"
    r"s|bos|eos|im_(start|end)|(start|end)_of_(turn|role|text)|task|context|prompt)(?![a-z0-9_-])"
)
"""The names that make a tag look like one of ours, or of a model's. Those of HTML are not among them."""
_CONTROL_LIKE = re.compile(
    rf"[{_OPENING}](?=[{_MARKS}]*[{_BARS}])|"
    r"\[(?=\s*/?\s*(?:INST|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT)\s*\])",
    re.IGNORECASE,
)
"""The marks by which chat templates tell roles apart. Source: the templates of Llama, Mistral, Qwen, Gemma, Phi,
DeepSeek and gpt-oss."""
_ROLE_LINE = re.compile(
    r"^(?=[ \t#*_>]*(?:system|user|human|assistant|developer|tool|instructions?|response|task|"
    r"conversation so far)[ \t*_]*[:：])",
    re.IGNORECASE | re.MULTILINE,
)
"""Where a line begins as one does in a written-out conversation."""
_LOOKALIKES = str.maketrans("аеорсухіѕтмкнвԁԍɡιορετυνκαѵᴏꞵℓ", "aeopcyxistmkhbdggiopetuvkavobl")
"""Letters of other scripts that look like Latin ones, as far as they occur in the words above."""
_NOT_IN_NAMES = re.compile(r"[^\w.-]")


def disarmed(text: str) -> str:
    """Text without control characters, and without the marks by which chat templates tell roles apart."""
    return _CONTROL_LIKE.sub("(", clean(text))


def frame_result(tool: str, text: str, limit_bytes: int) -> str:
    """The text of a tool's result with its provenance, at most about `limit_bytes` long."""
    body = disarmed(_ROLE_LINE.sub("| ", _TAG_LIKE.sub(_broken_up, cap(text, limit_bytes).text)))
    return f'<result tool="{_NOT_IN_NAMES.sub("", tool)[:64]}">\n{body}\n</result>'


def frame_outcome(outcome: Outcome, limit_bytes: int) -> str:
    """What one call gave, framed; after an error that can be mended, outside the frame, what to do."""
    framed = frame_result(outcome.call.tool, outcome.text, limit_bytes)
    if not outcome.is_error:
        return framed
    advice = "Correct the arguments and call it again." if outcome.retryable else "Do not repeat this call."
    return f"{framed}\nThat call failed. {advice}"


def _broken_up(found: re.Match[str]) -> str:
    """What stands in place of the beginning of a tag: itself, unless the tag poses as something."""
    word = "".join(
        letter
        for letter in unicodedata.normalize("NFKD", found[1]).casefold().translate(_LOOKALIKES)
        if not unicodedata.combining(letter) and letter not in "\u200c\u200d"
    )
    return "(" if _ROLE_TAG.match(word) else found[0]
