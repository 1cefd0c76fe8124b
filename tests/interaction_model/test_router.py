"""Routing with real embeddings, judged on phrasings that stand in no table of examples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from microturn.interaction_model._errors import BadExemplarsError
from microturn.interaction_model.cascade.router import Exemplars, IntentRouter, Replies
from microturn.interaction_model.cascade.sentence_embedding import SentenceEmbedder
from microturn.weights import locate

pytestmark = pytest.mark.model

PHRASINGS: dict[str, list[str]] = json.loads(
    Path(__file__).with_name("intent_phrasings.json").read_text("utf-8")
)


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    return SentenceEmbedder(locate("minilm"), locate("minilm-tokenizer"))


@pytest.fixture(scope="module")
def router(embedder: SentenceEmbedder) -> IntentRouter:
    return IntentRouter(embedder)


def test_an_embedding_has_length_one_and_depends_on_meaning(embedder: SentenceEmbedder) -> None:
    rain, wet, car = (
        embedder.embed(s) for s in ("will it rain", "is it going to be wet outside", "buy me a car")
    )
    assert np.linalg.norm(rain) == pytest.approx(1, abs=1e-5)
    assert rain @ wet > rain @ car + 0.2
    assert np.array_equal(rain, embedder.embed("will it rain"))


def test_a_very_long_text_is_cut(embedder: SentenceEmbedder) -> None:
    assert np.array_equal(embedder.embed("word " * 500), embedder.embed("word " * 600))


def test_no_phrasing_of_the_test_is_an_example() -> None:
    examples = {example.lower() for known in Exemplars.read().intents.values() for example in known}
    assert not examples & {phrasing.lower() for known in PHRASINGS.values() for phrasing in known}
    assert sum(map(len, PHRASINGS.values())) >= 150


def test_new_phrasings_find_their_intent(router: IntentRouter) -> None:
    right = {
        intent: [router.route(text.capitalize() + ".").intent == intent for text in texts]
        for intent, texts in PHRASINGS.items()
    }
    assert np.mean([value for values in right.values() for value in values]) >= 0.92
    assert np.mean(right["delegate"]) >= 0.97
    for intent in ("stop", "wait", "cancel_task", "repeat"):
        assert np.mean(right[intent]) >= 0.8, intent


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("Thanks. And what's the weather in Rome?", "delegate"),
        ("Hello! How are you?", "how_are_you"),
        ("Um, well, no, I meant Paris.", "correction"),
        ("Stop the timer.", "delegate"),
        ("Stop.", "stop"),
        ("", "delegate"),
        ("... !", "delegate"),
        ("qwzx vbrt plok", "delegate"),
    ],
)
def test_the_most_demanding_sentence_decides_and_doubt_is_delegated(
    router: IntentRouter, text: str, intent: str
) -> None:
    assert router.route(text).intent == intent


def test_doubt_is_told(router: IntentRouter) -> None:
    assert not router.route("qwzx vbrt plok").is_certain
    assert not router.route("").is_certain
    assert router.route("What's the weather in Rome?").is_certain


def test_any_table_can_be_used(embedder: SentenceEmbedder) -> None:
    table = Exemplars(
        fallback="other", intents={"lights": ["turn on the light"], "other": ["what is this", "sing"]}
    )
    router = IntentRouter(embedder, table)
    assert router.route("switch the light on please").intent == "lights"
    assert router.route("quantum field theory").intent == "other"


@pytest.mark.parametrize(
    ("fallback", "intents"),
    [("a", {"a": ["x"]}), ("c", {"a": ["x"], "b": ["y"]}), ("a", {"a": ["x"], "b": list[str]()})],
)
def test_a_table_that_cannot_route_is_refused(
    embedder: SentenceEmbedder, fallback: str, intents: dict[str, list[str]]
) -> None:
    with pytest.raises(BadExemplarsError, match="fallback"):
        IntentRouter(embedder, Exemplars(fallback=fallback, intents=intents))


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(BadExemplarsError, match="x.json"):
        Exemplars.read(tmp_path / "x.json")


def test_every_intent_has_replies_and_they_change() -> None:
    replies = Replies()
    for intent in Exemplars.read().intents:
        if intent in ("stop", "backchannel"):
            assert replies.choose(intent, 0) is None
        else:
            assert replies.choose(intent, 0) != replies.choose(intent, 1)
    assert replies.choose("unknown", 0) is None
