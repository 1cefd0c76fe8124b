"""A delegation of a real conversation, followed afterwards from the record on the disk, when nothing runs any more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from microturn.background_agent.scripted_model import Say, scripted_model

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(90), pytest.mark.usefixtures("home")]

TALK = Path(__file__).with_name("talk_program.py")


def talk() -> None:
    """One question in writing, and its answer."""
    with subprocess.Popen(
        [sys.executable, str(TALK), "talk", "--text"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MICROTURN_TRACE": "1"},
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("what about the pelican?\n")
        process.stdin.close()  # the conversation goes on until its answer was said
        shown = process.stdout.read()
    assert "It was a platypus" in shown, shown


def ask(*words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "microturn.runtime.cli", *words]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_the_life_of_a_delegation_is_told_from_the_words_said_to_the_words_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scripted_model(Say("It was a platypus.")) as model:
        monkeypatch.setenv("MICROTURN_MODEL_URL", model.url)
        monkeypatch.setenv("MICROTURN_MODEL", "scripted")
        await anyio.to_thread.run_sync(talk)
    listed = await anyio.to_thread.run_sync(ask, "delegation", "list")
    (task_id,) = re.findall(r"^\S+ \S+ ([0-9a-f]{12}) ", listed, re.MULTILINE)
    told = await anyio.to_thread.run_sync(ask, "delegation", "show", task_id[:6])
    places = [
        told.find(words)
        for words in (
            "the user's words begin",
            "handed over to the agent default",
            "attempt 1: taken by worker",
            "invoke_agent default",
            "chat scripted",
            "sent: final",
            "arrives and waits for a pause",
            "is woven into speech",
            "heard, to word 4 of 4",
        )
    ]
    assert -1 not in places, told
    assert places == sorted(places), told
    assert "pelican" not in told and "platypus" not in told
