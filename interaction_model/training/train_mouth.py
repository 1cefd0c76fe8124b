"""Trains the mouth alone and examines it: `python -m microturn.interaction_model.training.train_mouth OUT`.

The teacher says phrases of the vocabulary; phrases of the exam are never trained on. About 20 minutes on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.voice_file import save_mouth
from microturn.interaction_model.training.mouth_exam import MouthExam, say_phrase
from microturn.interaction_model.training.mouth_trainer import (
    FrameBank,
    Schedule,
    train_durations,
    train_flow_head,
)
from microturn.interaction_model.training.own_voice import OwnVoice, draw
from microturn.interaction_model.training.phrases import draw_phrase

Phrase = tuple[str, ...]

DURATIONS = Schedule(steps=1_500, batch=256)
EXAM_SEED = 1_000_003
"""Added to the seed of the phrases, for those of the exam."""


def draw_phrases(count: int, seed: int, but: Collection[Phrase] = ()) -> list[Phrase]:
    """Return different phrases, none of them in `but`."""
    generator = np.random.default_rng(seed)
    known, drawn = set(but), list[Phrase]()
    while len(drawn) < count:
        phrase = draw_phrase(generator)
        if phrase not in known:
            known.add(phrase)
            drawn.append(phrase)
    return drawn


def trained(
    phrases: Sequence[Phrase], teacher: OwnVoice, schedule: Schedule, config: FlowHeadConfig
) -> Mouth:
    """Return a mouth that has learned from the teacher's phrases."""
    mouth = Mouth(config)
    spoken = [teacher.say(words) for words in phrases]
    train_durations(mouth.durations, spoken, DURATIONS)
    train_flow_head(mouth.flow, FrameBank(spoken), schedule)
    return mouth.eval()


def main(
    out: Annotated[Path, typer.Argument(help="File of weights to write.")],
    condition: Annotated[int, typer.Option(min=1, help="Width of the backbone's hidden state.")],
    phrases: Annotated[int, typer.Option(min=1, help="Phrases to learn from.")] = 4_000,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the flow head.")] = 9_000,
    exam: Annotated[int, typer.Option(min=1, help="Phrases of the exam.")] = 60,
    seed: Annotated[int, typer.Option(help="Fixes phrases and first weights.")] = 0,
) -> None:
    """Train the mouth alone, write it, and say how many words of it and of its teacher are not understood."""
    torch.manual_seed(seed)
    learned = draw_phrases(phrases, seed)
    teacher = OwnVoice()
    mouth = trained(learned, teacher, Schedule(steps=steps, batch=64), FlowHeadConfig(condition=condition))
    save_mouth(mouth, out)
    unseen = draw_phrases(exam, seed + EXAM_SEED, learned)
    listener = MouthExam()
    for name, found in (
        ("teacher", listener.errors(unseen, lambda words: draw(teacher.say(words).frames))),
        ("mouth", listener.errors(unseen, lambda words: say_phrase(mouth, words))),
    ):
        sys.stdout.write(f"{name}: {found.errors} of {found.words} words, {found.rate:.1%}\n")


if __name__ == "__main__":
    typer.run(main)
