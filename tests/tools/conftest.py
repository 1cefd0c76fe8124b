"""A context for the tools under test that keeps what they report."""

from __future__ import annotations

from pathlib import Path

import pytest

from microturn.protocols import Speech
from microturn.tools.testing import RecordingContext, make_context


@pytest.fixture
def context(tmp_path: Path) -> RecordingContext:
    return make_context(data_dir=tmp_path / "data")


@pytest.fixture
def progress(context: RecordingContext) -> list[str]:
    return context.reported


@pytest.fixture
def said(context: RecordingContext) -> list[Speech]:
    return context.said
