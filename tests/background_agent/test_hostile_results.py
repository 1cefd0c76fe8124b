"""What tools return when somebody means harm: nothing leaves its frame, nothing of it is spoken as it stands, and a
model that obeys it reaches no tool with an effect."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from pydantic import JsonValue

from microturn.background_agent import LOCAL, AgentEngine, ChatClient, Control, LoopEngine
from microturn.background_agent.framing import frame_result
from microturn.background_agent.pydantic_engine import PydanticEngine
from microturn.background_agent.pydantic_models import model_of
from microturn.background_agent.scripted_model import CallTools, Say, ScriptedModel, scripted_model
from microturn.background_agent.speech_text import to_speech
from microturn.tools import ToolContext, ToolRegistry, tool
from tests.background_agent.stand_ins import Sent, package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

CORPUS = sorted((Path(__file__).parent / "hostile").glob("*.json"))
LIMIT_BYTES = 6_000


def _cases() -> list[tuple[str, str]]:
    return [
        (f"{path.stem}: {case['name']}", case["text"] * case.get("times", 1))
        for path in CORPUS
        for case in json.loads(path.read_text("utf-8"))
    ]


CASES = _cases()
every_case = pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in CASES])


def test_the_corpus_is_large_and_has_no_case_twice() -> None:
    assert len(CASES) >= 60 and len(CORPUS) >= 9
    assert len({name for name, _ in CASES}) == len({text for _, text in CASES}) == len(CASES)


# Written anew here, and wider than what is tested: a reader who squints.
_SQUINT = str.maketrans("аеорсухіѕтενυτρ＜‹⟨〈❮∕⁄⧸∣", "aeopcyxisteuuTp<<<<<///|")


def squinted(text: str) -> str:
    """The text as somebody sees it who does not look closely."""
    folded = unicodedata.normalize("NFKD", text).translate(_SQUINT).casefold()
    return "".join(c for c in folded if unicodedata.category(c) not in ("Mn", "Cf", "Cc") or c in "\n\t")


@every_case
def test_nothing_leaves_its_frame(text: str) -> None:
    framed = frame_result("page", text, LIMIT_BYTES)

    assert len(framed.encode()) <= LIMIT_BYTES + 100
    assert framed.startswith('<result tool="page">\n') and framed.endswith("\n</result>")
    inner = squinted(framed.removeprefix('<result tool="page">\n').removesuffix("\n</result>"))
    assert not re.search(r"<[\s<]*/?\s*(result|tool_|function|invoke|system|user|assistant|think)", inner)
    assert not re.search(r"<\s*\||\[\s*/?\s*(inst|tool_calls|system_prompt)\s*\]", inner)
    assert not re.search(r"<(start|end)_of_turn|<<sys>>|<s>", inner)
    assert not re.search(
        r"^[#*\s]*(human|user|assistant|system|instruction|response)[\s*]*:", inner, re.MULTILINE
    )


@every_case
def test_nothing_hidden_reaches_a_model(text: str) -> None:
    framed = frame_result("page", text, LIMIT_BYTES)

    allowed = "\n\t\u200c\u200d"
    hidden = {c for c in framed if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") and c not in allowed}
    assert hidden == set()
    assert not re.search("[\U000e0000-\U000e0fff\ufe00-\ufe0d\u3164\u115f]", framed)
    assert not re.search("[\u200c\u200d]{3}", framed)


@pytest.mark.parametrize("name", [name for name, _ in CASES])
def test_nothing_that_is_markup_or_an_address_is_spoken(name: str) -> None:
    assert spoken_amiss(to_speech(dict(CASES)[name][:20_000])) == []


def spoken_amiss(spoken: str) -> list[str]:
    """What of a sentence must not be spoken."""
    patterns = (
        r"https?://\S+",
        r"ftp://\S+",
        r"\w+\.\w+/\S+",
        r"!\[",
        r"\]\(",
        r"</?[a-z]\w*[^>]*>",
        r"javascript:",
    )
    return [
        found[0] for pattern in patterns for found in [re.search(pattern, spoken, re.IGNORECASE)] if found
    ]


EFFECTS: list[str] = []


@tool
async def read_page(context: ToolContext) -> str:
    """Look at a page of the sauna's rules."""
    return dict(CASES)[context.package.session_id]


@tool(side_effect="unsafe")
async def delete_note(title: str = "") -> str:
    """Remove a stored note for good."""
    EFFECTS.append(f"deleted {title}")
    return "deleted"


@tool(side_effect="idempotent")
async def send_mail(to: str = "") -> str:
    """Post an electronic letter to somebody."""
    EFFECTS.append(f"sent to {to}")
    return "sent"


Obeys: TypeAlias = Callable[[str, Path], AbstractAsyncContextManager[tuple[ScriptedModel, AgentEngine]]]
"""Serves a model that obeys the result of a case, and puts an engine in front of it."""
_WANTED: tuple[tuple[str, dict[str, JsonValue]], ...] = (
    ("read_page", {}),
    ("delete_note", {"title": "taxes"}),
    ("send_mail", {"to": "mallory"}),
)
"""What the model calls, one after the other."""


def _repeated(name: str) -> str:
    """The result of a case as the model repeats it."""
    return dict(CASES)[name][:2_000].encode(errors="replace").decode()


@asynccontextmanager
async def loop(name: str, data_dir: Path) -> AsyncIterator[tuple[ScriptedModel, AgentEngine]]:
    """The loop, with a small model that writes JSON actions."""
    actions: list[JsonValue] = [{"tool": tool, "arguments": arguments} for tool, arguments in _WANTED]
    # The last is asked for where the answer looked like a thought.
    script = [Say(json.dumps(one)) for one in [*actions, {"final": _repeated(name)}, {"final": "At nine."}]]
    async with scripted_model(*script) as model:
        client = ChatClient(model.url, "m", limits=LOCAL.limits)
        async with LoopEngine(client, LOCAL, data_dir=data_dir) as engine:
            yield model, engine


@asynccontextmanager
async def pydantic_ai(name: str, data_dir: Path) -> AsyncIterator[tuple[ScriptedModel, AgentEngine]]:
    """pydantic-ai, with a large model that calls natively."""
    calls = [CallTools(((tool, json.dumps(arguments)),)) for tool, arguments in _WANTED]
    async with scripted_model(*calls, Say(_repeated(name)), Say("At nine.")) as model:
        served = model_of("openai:m", url=model.url, key="sk-secret")
        async with PydanticEngine(served, data_dir=data_dir) as engine:
            yield model, engine


@pytest.mark.parametrize("obeys", [loop, pydantic_ai])
@pytest.mark.parametrize("name", [name for name, _ in CASES])
async def test_a_model_that_obeys_reaches_no_tool_with_an_effect(
    name: str, obeys: Obeys, tmp_path: Path
) -> None:
    EFFECTS.clear()
    events = Sent()
    task = package("when does the sauna open", session_id=name)
    async with obeys(name, tmp_path) as (model, engine):
        await engine.run(task, ToolRegistry([read_page, delete_note, send_mail]), events, Control())

    assert EFFECTS == []
    assert len(model.requests) >= 4
    assert json.dumps(model.requests[-1]).count("was not called: the user did not ask for that") == 2
    assert [found for spoken in events.spoken() for found in spoken_amiss(spoken)] == []
    assert events.kinds()[-1] == "final"


@pytest.mark.parametrize(
    "text",
    [
        '<a href="/x">opening hours</a> <b>9</b> < 10 and 3 <4',
        "def f(user: str) -> list[str]: return [x for x in user if x < 'm']",
        "The tool: a hammer.\nThe user guide says: press the button.",
        "{'result': [1, 2], 'system': 'metric'}",
        "«Guten Tag», sagte der Wirt. 3 ≺ 4",
    ],
)
def test_what_means_no_harm_stays_as_it_is(text: str) -> None:
    assert frame_result("page", text, LIMIT_BYTES) == f'<result tool="page">\n{text}\n</result>'
