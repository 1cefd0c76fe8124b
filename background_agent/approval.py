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
NESTED = 4
"""How deep lists within lists are read out. Our choice."""
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
CORRECTED = "`{name}` was not called: the user has changed the task meanwhile."
_PARAMETER = re.compile(r"\{([^{}]*)\}")
_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"[?!;:]+|\.(?=\s|$)")


def approval_question(spec: ToolSpec, arguments: dict[str, JsonValue]) -> str:
    """The question for one call: the tool's sentence with this call's arguments, one line for the ear.

    An argument that the call leaves out is read out as its default.
    """
    spoken = _read_out(spec, arguments)
    question = _PARAMETER.sub(lambda found: spoken[found[1]], spec.approval or "")
    return " ".join(question.split())


def may_be_echo(answer: str, spec: ToolSpec, arguments: dict[str, JsonValue]) -> bool:
    """Whether the words of an answer were read out as an argument: the microphone may have heard the question itself.

    An argument that says "yes" must not approve its own call.
    """
    heard = f" {' '.join(_WORD.findall(answer.lower()))} "
    said = (f" {' '.join(_WORD.findall(value.lower()))} " for value in _read_out(spec, arguments).values())
    return any(heard in each for each in said)


def _read_out(spec: ToolSpec, arguments: dict[str, JsonValue]) -> dict[str, str]:
    """The arguments that the question names, as they are read out."""
    properties = spec.parameters.get("properties")
    known = properties if isinstance(properties, dict) else {}
    spoken: dict[str, str] = {}
    for name in _PARAMETER.findall(spec.approval or ""):
        described = known.get(name)
        default = described.get("default") if isinstance(described, dict) else None
        spoken[name] = _spoken(arguments.get(name, default))
    return spoken


def _spoken(value: JsonValue) -> str:
    """An argument as it is read out: cleaned, without ends of sentences, and cut with a word that says so."""
    text = _text(value)
    # Ends of sentences go last, for the text for the ear may have made some of line breaks.
    plain = _SENTENCE_END.sub(",", to_speech(one_line(text, 4 * VALUE_CHARS)))
    plain = " ".join(plain.replace(",,", ",").split()).strip(" ,")
    if len(plain) <= VALUE_CHARS and len(text) <= 4 * VALUE_CHARS:
        return plain or NOTHING
    return plain[:VALUE_CHARS].rsplit(" ", 1)[0].strip(" ,") + CUT_OFF


def _text(value: JsonValue, depth: int = 0) -> str:
    """An argument as plain text, its parts with commas between them."""
    if value is None or depth == NESTED:
        return "" if value is None else "and so on"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_text(item, depth + 1) for item in value[:VALUE_CHARS])
    if isinstance(value, dict):
        items = list(value.items())[:VALUE_CHARS]
        return ", ".join(f"{name} {_text(item, depth + 1)}" for name, item in items)
    return str(value)
