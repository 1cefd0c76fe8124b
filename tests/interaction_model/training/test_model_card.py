"""The card of the shipped weights speaks of the very files beside it."""

from __future__ import annotations

import hashlib
import re

import pytest

from microturn.interaction_model.native.checkpoint import NETWORK_FILE
from microturn.interaction_model.native.loader import SHIPPED
from microturn.interaction_model.native.voice_file import MOUTH_FILE

pytestmark = pytest.mark.unit

FILES = (NETWORK_FILE, MOUTH_FILE)
DIGITS = 12
"""Of a digest, as the tables of an exam name files."""


@pytest.fixture(scope="module")
def card() -> str:
    return (SHIPPED / "MODEL_CARD.md").read_text("utf-8")


def digest(name: str) -> str:
    return hashlib.sha256((SHIPPED / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_the_card_names_the_files_beside_it(card: str, name: str) -> None:
    assert f"`{digest(name)}`" in card


def test_every_exam_on_the_card_was_taken_by_these_files(card: str) -> None:
    examined = re.findall(r"^Network `(\w+)`, mouth `(\w+)`\.$", card, re.MULTILINE)
    assert set(examined) == {tuple(digest(name)[:DIGITS] for name in FILES)}
