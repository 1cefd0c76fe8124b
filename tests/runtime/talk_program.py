"""`microturn` with a scripted model for ears and voice: all the rest is real, and it starts in a second.

The environment has the script: `SCRIPT_LINES`, JSON triples of start, end (ms) and words.
"""

from __future__ import annotations

import json
import os
import signal
from unittest.mock import patch

from microturn.protocols import Delegate
from microturn.runtime import cli, interaction_models
from microturn.runtime.testing import Answer, ScriptedModel, ToneVoice, UserLine


def ask(text: str) -> Answer:
    """Delegate what ends in a question mark; say something to all else."""
    if text.endswith("?"):
        return Answer("One moment.", (Delegate(text, 0, 200),))
    return Answer("I see.")


def scripted() -> ScriptedModel:
    """The model of the script."""
    lines = [UserLine(*each) for each in json.loads(os.environ.get("SCRIPT_LINES", "[]"))]
    return ScriptedModel(lines, ask, ToneVoice(word_ms=80))


if __name__ == "__main__":
    # A test run that was itself started in the background hands down a Ctrl-C that is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with patch.multiple(interaction_models, load_speech=scripted, require_speech_weights=lambda: None):
        cli.main()
