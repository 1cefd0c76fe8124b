"""The streaming client against a real local HTTP server that plays good and bad cases."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest
from pydantic import JsonValue

from microturn.background_agent import ChatClient, ChatLimits
from microturn.background_agent._errors import (
    ModelBrokeOffError,
    ModelDownError,
    ModelRequestError,
    ModelSlowError,
)
from microturn.background_agent.chat_client import ChatAnswer, ChatRequest, ToolCall
from microturn.background_agent.scripted_model import CallTools, Fail, Refuse, Say, scripted_model

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

REQUEST = ChatRequest([{"role": "user", "content": "SECRET QUESTION"}])
QUICK = ChatLimits(connect_s=1, first_byte_s=0.3, silence_s=0.3, retries=2, retry_wait_s=0.01)
KEY = "sk-very-secret"


async def ask(url: str, request: ChatRequest = REQUEST) -> tuple[ChatAnswer, list[str]]:
    """Ask once; returns the answer and its pieces."""
    client = ChatClient(url, "some-model", key=KEY, limits=QUICK)
    answer = ChatAnswer()
    try:
        async with aclosing(client.stream(request, answer)) as stream:
            return answer, [piece async for piece in stream]
    finally:
        await client.aclose()


async def test_an_answer_comes_in_pieces_with_its_counts() -> None:
    async with scripted_model(Say("The capital is Canberra.")) as model:
        answer, pieces = await ask(model.url)
    assert answer.text == "".join(pieces) == "The capital is Canberra."
    assert len(pieces) > 2
    assert (answer.finish_reason, answer.prompt_tokens, answer.cached_tokens) == ("stop", 10, 8)
    assert model.keys == [f"Bearer {KEY}"]


async def test_native_calls_are_joined_from_their_pieces() -> None:
    calls = (("weather", '{"city": "Oslo"}'), ("weather", '{"city": "Lisbon"}'))
    async with scripted_model(CallTools(calls, "Let me see.")) as model:
        answer, _ = await ask(model.url)
    assert answer.tool_calls == [
        ToolCall("id0", "weather", '{"city": "Oslo"}'),
        ToolCall("id1", "weather", '{"city": "Lisbon"}'),
    ]
    assert answer.text == "Let me see."


async def test_a_schema_and_tools_are_sent_as_the_interface_has_them() -> None:
    schema: JsonValue = {"type": "object"}
    tools: list[JsonValue] = [{"type": "function", "function": {"name": "x"}}]
    async with scripted_model(Say("{}")) as model:
        await ask(model.url, ChatRequest(REQUEST.messages, response_schema=schema, tools=tools))
    sent = model.requests[0]
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "action", "strict": True, "schema": schema},
    }
    assert sent["tools"] == tools
    assert sent["model"] == "some-model"


async def test_a_busy_server_is_asked_again_before_the_first_byte() -> None:
    async with scripted_model(Refuse(503), Refuse(429), Say("At last.")) as model:
        answer, _ = await ask(model.url)
    assert answer.text == "At last."
    assert len(model.requests) == 3


async def test_a_server_that_stays_busy_is_down() -> None:
    async with scripted_model(*[Refuse(503)] * 5) as model:
        with pytest.raises(ModelDownError, match="503"):
            await ask(model.url)
    assert len(model.requests) == 3


async def test_nobody_at_the_address_is_down() -> None:
    async with scripted_model() as model:
        url = model.url
    with pytest.raises(ModelDownError, match="cannot be reached"):
        await ask(url)


@pytest.mark.parametrize("sends_head", [False, True])
async def test_a_server_that_says_nothing_is_slow(sends_head: bool) -> None:
    async with scripted_model(Fail("hang", sends_head=sends_head)) as model:
        with pytest.raises(ModelSlowError, match=r"0\.3 s"):
            await ask(model.url)
    assert len(model.requests) == 1


async def test_a_server_that_gets_stuck_is_slow_and_its_words_are_kept() -> None:
    async with scripted_model(Fail("hang", "It is three")) as model:
        with pytest.raises(ModelSlowError) as caught:
            await ask(model.url)
    assert caught.value.partial == "It is three"


@pytest.mark.parametrize("how", ["cut", "end", "error"])
async def test_a_stream_that_ends_in_the_middle_is_no_answer(how: str) -> None:
    line = Fail("cut", "It is three") if how == "cut" else Fail("end", "It is three")
    if how == "error":
        line = Fail("error", "It is three")
    async with scripted_model(line) as model:
        with pytest.raises(ModelBrokeOffError) as caught:
            await ask(model.url)
    assert caught.value.partial == "It is three"
    assert len(model.requests) == 1
    assert "three" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "MICROTURN_MODEL_KEY"), (404, "address"), (400, "context")]
)
async def test_a_refused_request_is_the_callers_and_says_what_to_check(status: int, hint: str) -> None:
    async with scripted_model(Refuse(status)) as model:
        with pytest.raises(ModelRequestError, match=hint) as caught:
            await ask(model.url)
    assert KEY not in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert KEY not in repr(ChatClient(model.url, "m", key=KEY))


async def test_cancelling_closes_the_connection() -> None:
    async with scripted_model(Fail("hang", "One moment")) as model:
        with anyio.move_on_after(0.1):
            await ask(model.url)
        with anyio.fail_after(1):
            await model.hung_up.wait()
