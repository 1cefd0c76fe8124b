"""Examines whatever stands behind the interface of interaction models, step by step on a virtual clock.

Reads what came out as a user gets it: words by the sound that they end in, transcripts and actions. Knows nothing of
what is behind the interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from microturn.interaction_model.interface import InteractionModel, ModelSession, SessionConfig
from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import written_words
from microturn.interaction_model.training.conduct import Conduct
from microturn.interaction_model.training.exam_figures import SEEN_TASKS
from microturn.interaction_model.training.exam_scenes import RenderedScene
from microturn.interaction_model.training.scene import MICRO_TURN_MS
from microturn.interaction_model.training.scorers import SpokenWord
from microturn.interaction_model.training.stage import heard_ms
from microturn.protocols import (
    INPUT_SAMPLES,
    OUTPUT_RATE_HZ,
    Action,
    Cancel,
    Delegate,
    Floor,
    Frame,
    MicroTurnInput,
    MicroTurnOutput,
    Transcript,
    Update,
    Utterance,
    WovenText,
)

_SAMPLES_PER_MS = OUTPUT_RATE_HZ / 1000


class ServedExaminee:
    """An interaction model, as it is served.

    Args:
        name: what stands above its figures.
        model: must have no sessions open; is not closed.
        impossible: tasks and figures that it cannot do by how it is made. Pictures are given to those alone who can do
            tasks with them.
        weaves: whether results are handed in as soon as they arrive, because the model chooses the time itself. If
            not, they wait until nobody has the floor, as they do in the runtime.
        together: scenes that are stepped side by side.
    """

    def __init__(
        self,
        name: str,
        model: InteractionModel,
        *,
        weaves: bool,
        impossible: frozenset[str] = frozenset(),
        together: int = 1,
    ) -> None:
        self.name = name
        self.impossible = impossible
        self._model = model
        self._weaves = weaves
        self._together = together

    def sit(self, scenes: Sequence[RenderedScene]) -> list[Conduct]:
        """See `Examinee`."""
        groups = [scenes[at : at + self._together] for at in range(0, len(scenes), self._together)]
        return [conduct for group in groups for conduct in self._live_through(group)]

    def _live_through(self, scenes: Sequence[RenderedScene]) -> list[Conduct]:
        sittings = [self._begin(number, scene) for number, scene in enumerate(scenes)]
        for turn in range(max(scene.scene.micro_turns for scene in scenes)):
            here = [each for each in sittings if turn < each.scene.scene.micro_turns]
            outputs = self._model.step([(each.session, each.arrivals(turn)) for each in here])
            self._model.settle()
            for sitting, output in zip(here, outputs, strict=True):
                sitting.notes.take(output)
        for sitting in sittings:
            sitting.session.close()
        return [sitting.notes.conduct() for sitting in sittings]

    def _begin(self, number: int, scene: RenderedScene) -> _Sitting:
        session = self._model.open(SessionConfig(f"exam-{number}"))
        return _Sitting(session, scene, sees=not SEEN_TASKS & self.impossible, weaves=self._weaves)


@dataclass(slots=True)
class _Notes:
    """What came out so far, as the user got it."""

    free_ms: float = 0.0
    """When the sound that was sent has been played."""
    utterances: dict[str, Utterance] = field(default_factory=dict)
    ends_ms: dict[str, float] = field(default_factory=dict)
    """Where the next word of an utterance begins."""
    said: list[SpokenWord] = field(default_factory=list)
    texts: dict[int, list[tuple[int, Words]]] = field(default_factory=dict)
    """By turn of the user what was taken for said, at each micro-turn in which that was told."""
    tasks: list[tuple[int, Words]] = field(default_factory=list)
    cancels: list[int] = field(default_factory=list)
    signs: list[int] = field(default_factory=list)
    is_free: bool = True
    """Whether nobody has the floor."""

    def take(self, output: MicroTurnOutput) -> None:
        """Take in the output of one step."""
        now = heard_ms(output.index)
        if output.playout == "stop":
            self.free_ms = min(self.free_ms, now)
        begin = max(self.free_ms, now)
        self._speak(output, begin)
        if len(output.audio):
            self.free_ms = begin + len(output.audio) / _SAMPLES_PER_MS
        for transcript in output.transcripts:
            self._write(output.index, transcript)
        for action in output.actions:
            self._act(output.index, action)
        self.is_free = output.floor.holder is Floor.NOBODY and output.floor.user_finished

    def _speak(self, output: MicroTurnOutput, begin_ms: float) -> None:
        for utterance in output.utterances:
            self.utterances[utterance.utterance_id] = utterance
            self.ends_ms[utterance.utterance_id] = begin_ms + utterance.start_sample / _SAMPLES_PER_MS
            if utterance.source == "backchannel":
                self.signs.append(output.index)
        for word in output.words:
            end = begin_ms + word.end_sample / _SAMPLES_PER_MS
            piece = self.utterances[word.utterance_id].text.split()[word.index]
            begin = self.ends_ms[word.utterance_id]
            self.ends_ms[word.utterance_id] = end
            # A sign of listening takes no floor and answers nothing.
            if self.utterances[word.utterance_id].source != "backchannel":
                self.said += [SpokenWord(each, begin / 1000, end / 1000) for each in written_words(piece)]

    def _write(self, turn: int, transcript: Transcript) -> None:
        if not transcript.typed:
            self.texts.setdefault(transcript.turn, []).append((turn, written_words(transcript.text)))

    def _act(self, turn: int, action: Action) -> None:
        match action:
            case Delegate(intent=text) | Update(text=text):
                self.tasks.append((turn, written_words(text)))
            case Cancel():
                self.cancels.append(turn)
            case _:
                pass

    def conduct(self) -> Conduct:
        """Give out what was done."""
        heard = [word for _, versions in sorted(self.texts.items()) for word in _settled(versions)]
        said = sorted(self.said, key=lambda word: word.begin)
        return Conduct(tuple(said), tuple(heard), tuple(self.tasks), tuple(self.cancels), tuple(self.signs))


@dataclass(slots=True)
class _Sitting:
    """One scene that a session lives through."""

    session: ModelSession
    scene: RenderedScene
    sees: bool
    weaves: bool
    waiting: list[WovenText] = field(default_factory=list)
    """Results that arrived and were not handed in."""
    notes: _Notes = field(default_factory=_Notes)

    def arrivals(self, turn: int) -> MicroTurnInput:
        """What one micro-turn brings."""
        given = self.scene.scene.arrivals.get(turn)
        if given is not None:
            self.waiting += [
                WovenText(f"result-{turn}-{n}", " ".join(words)) for n, words in enumerate(given.background)
            ]
        woven = tuple(self.waiting) if self.weaves or self.notes.is_free else ()
        self.waiting = self.waiting[len(woven) :]
        return MicroTurnInput(
            turn,
            self.scene.sound[turn * INPUT_SAMPLES : (turn + 1) * INPUT_SAMPLES],
            self._frames(turn),
            (" ".join(given.text),) if given is not None and given.text else (),
            woven,
        )

    def _frames(self, turn: int) -> tuple[Frame, ...]:
        pixels = self.scene.scene.frames(turn) if self.sees else None
        if pixels is None:
            return ()
        begin = turn * MICRO_TURN_MS
        return Frame(begin, pixels[0]), Frame(begin + MICRO_TURN_MS // 2, pixels[1])


def _settled(versions: Sequence[tuple[int, Words]]) -> list[tuple[int, str]]:
    """The words of the newest version, each with the micro-turn since which it and all before it have stood there."""
    final = versions[-1][1]
    words = []
    for place, word in enumerate(final):
        since = versions[-1][0]
        for turn, text in reversed(versions):
            if text[: place + 1] != final[: place + 1]:
                break
            since = turn
        words.append((since, word))
    return words
