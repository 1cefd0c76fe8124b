"""What the user is asked before a tool is called, and what the model is told where the call was not approved.

Arguments come from a model, which may have read them anywhere: in a question they are cleaned and cut, and can neither
end its sentence nor ask one of their own.
"""

from __future__ import annotations

import re

from pydantic import JsonValue

from microturn.background_agent.speech_text import to_speech
from microturn.protocols import ToolSpec
from microturn.tools.text import one_line

VALUE_CHARS = 100
"""How much of an argument is read out; about eight seconds of speech. Our choice."""
LIST_ITEMS = 5
"""How many items of a list are read out. Our choice."""
CUT_OFF = ", and so on"
"""Said in the place of what was cut off, so that nobody approves what they take to be all of it."""
NOTHING = "nothing"
"""Said in the place of an argument without words."""
ONCE_MORE = "I didn't get that."
"""Said before a question that is asked again, as the answer was neither yes nor no."""
DECLINED = "`{name}` was not called: the user was asked and said no. Do not call it again; tell the user it was not done."
UNANSWERED = (
    "`{name}` was not called: the user was asked and gave no answer, which counts as a no. Do not call it again; "
    "tell the user it was not done."
)
_PARAMETER = re.compile(r"\{([^{}]*)\}")
_SENTENCE_END = re.compile(r"[?!;:]+|\.(?=\s|$)")


def approval_question(spec: ToolSpec, arguments: dict[str, JsonValue]) -> str:
    """The question for one call: the tool's sentence with this call's arguments, one line for the ear.

    An argument that the call leaves out is read out as its default.
    """
    properties = spec.parameters.get("properties")
    known = properties if isinstance(properties, dict) else {}

    def spoken(found: re.Match[str]) -> str:
        name = found[1]
        described = known.get(name)
        default = described.get("default") if isinstance(described, dict) else None
        return _spoken(arguments.get(name, default))

    return " ".join(_PARAMETER.sub(spoken, spec.approval or "").split())


def _spoken(value: JsonValue) -> str:
    """An argument as it is read out."""
    match value:
        case None | {} | []:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case list():
            items = ", ".join(_spoken(item) for item in value[:LIST_ITEMS])
            return items if len(value) <= LIST_ITEMS else items + CUT_OFF
        case dict():
            return _spoken([f"{name} {_spoken(item)}" for name, item in list(value.items())[:LIST_ITEMS]])
        case _:
            return _words(str(value))


def _words(text: str) -> str:
    # Ends of sentences go last, for the text for the ear may have made some of line breaks.
    plain = _SENTENCE_END.sub(",", to_speech(one_line(text, 4 * VALUE_CHARS)))
    plain = " ".join(plain.replace(",,", ",").split()).strip(" ,")
    if len(plain) <= VALUE_CHARS and len(text) <= 4 * VALUE_CHARS:
        return plain or NOTHING
    return plain[:VALUE_CHARS].rsplit(" ", 1)[0].strip(" ,") + CUT_OFF
