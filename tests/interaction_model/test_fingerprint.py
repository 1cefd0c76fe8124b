"""The cascade's fingerprint: equal for equal weights and versions, another one otherwise."""

from __future__ import annotations

import re

import pytest

from microturn.interaction_model.cascade import fingerprint
from microturn.interaction_model.cascade.fingerprint import cascade_fingerprint

pytestmark = pytest.mark.unit


def test_a_fingerprint_is_short_and_stays() -> None:
    assert re.fullmatch(r"cascade-[0-9a-f]{12}", cascade_fingerprint())
    assert cascade_fingerprint() == cascade_fingerprint()


def test_another_version_or_processor_gives_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    here = cascade_fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr("platform.machine", lambda: "abacus")
        other_processor = cascade_fingerprint()
    monkeypatch.setattr(fingerprint, "version", lambda name: "0.0.1")
    assert len({here, other_processor, cascade_fingerprint()}) == 3
