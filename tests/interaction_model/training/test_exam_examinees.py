"""Those who sit the exam: what is served does what the free run does, and everybody is read in the same way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from microturn.interaction_model.interface import ModelSession, SessionConfig
from microturn.interaction_model.native.decoding import Answer, Emitter, Question
from microturn.interaction_model.native.emission import read_emission
from microturn.interaction_model.native.grammar import Inputs
from microturn.interaction_model.native.model import NativeModel
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.own_words import OwnWords
from microturn.interaction_model.native.state_window import StateWindow
from microturn.interaction_model.native.vocabulary import WordKind, token_range
from microturn.interaction_model.training.cast import estimated_cast, estimated_word_ms
from microturn.interaction_model.training.conduct import conduct_of
from microturn.interaction_model.training.exam_figures import GOALS, SEEN_TASKS
from microturn.interaction_model.training.exam_report import NOT_POSSIBLE, lines, tables
from microturn.interaction_model.training.exam_scenes import RenderedScene
from microturn.interaction_model.training.exam_sheet import Sheet
from microturn.interaction_model.training.examinees import (
    NetworkExaminee,
    OkayExaminee,
    SilentExaminee,
    TargetExaminee,
    without_clock,
)
from microturn.interaction_model.training.free_run import FreeRunner
from microturn.interaction_model.training.mixing import Mixture
from microturn.interaction_model.training.served_examinee import ServedExaminee
from microturn.protocols import (
    INPUT_SAMPLES,
    Cancel,
    Delegate,
    Floor,
    FloorState,
    MicroTurnInput,
    MicroTurnOutput,
    SpokenWord,
    Transcript,
    Utterance,
)
from tests.interaction_model.native.small_models import small_mouth, small_network

pytestmark = pytest.mark.unit

TURNS = 12


def rendered(task: str, seed: int = 1, turns: int = TURNS, result: int = 7) -> RenderedScene:
    """The first micro-turns of a scene of the mixture, with noise for its sound."""
    scene = Mixture(estimated_cast(), "test").scene_of(task, seed)
    arrivals = {
        3: Inputs(text=("what", "time", "is", "it")),
        result: Inputs(background=(("it", "is", "late"), ("red", "cup"))),
    }
    short = replace(scene, micro_turns=turns, targets=scene.targets[:turns], arrivals=arrivals)
    drawn = np.random.default_rng(seed).standard_normal(turns * INPUT_SAMPLES)
    return RenderedScene(short, (0.05 * drawn).astype(np.float32))


def ticking_network() -> Network:
    """A small network whose clock matters."""
    network = small_network()
    torch.nn.init.normal_(network.clock.hands.weight, std=0.3)
    return network


class NotedEmitter(Emitter):
    """Keeps what it emits, by session."""

    def __init__(self, model: NativeModel) -> None:
        super().__init__(model.decoder)
        self.noted: dict[int, list[tuple[int, ...]]] = {}

    def emit(self, questions: Sequence[Question]) -> list[Answer]:
        answers = super().emit(questions)
        for question, answer in zip(questions, answers, strict=True):
            self.noted.setdefault(id(question.state), []).append(answer.tokens)
        return answers


@pytest.mark.parametrize("hears", [True, False])
def test_what_is_served_emits_the_tokens_of_the_free_run_and_is_read_as_they_are(hears: bool) -> None:
    network, mouth = ticking_network(), small_mouth()
    if not hears:  # Then its first word means the result that waits.
        with torch.no_grad():
            network.lm_head.weight[list(token_range(WordKind.HEARD))] = 0
    scenes = [
        rendered(task, turns=turns, result=7 if hears else 0)
        for task, turns in (("repetitions", TURNS + 8), ("errand", TURNS + 5))
    ]
    model = NativeModel(network, mouth, window=StateWindow(sessions=2, tokens=4096, page_tokens=64))
    model._emitter = noted = NotedEmitter(model)
    served = ServedExaminee("served", model, weaves=True, together=2).sit(scenes)
    free = FreeRunner(network, [scene.stored() for scene in scenes], OwnWords(mouth.durations)).run()
    assert list(noted.noted.values()) == free
    assert sum(map(len, free[0])) > TURNS
    told = [" ".join(word for tokens in each for word in read_emission(tokens).said) for each in free]
    assert hears or all(text.startswith("it is late ") for text in told)

    for own, tokens in zip(served, free, strict=True):
        wanted = conduct_of(tokens, OwnWords(mouth.durations))
        assert (own.heard, own.tasks, own.cancels) == (wanted.heard, wanted.tasks, wanted.cancels)
        # A sign beside words, or while words sound, is not given.
        assert set(own.signs) <= set(wanted.signs)
        # Words are told when they have ended, so the last ones are missing.
        assert [each.word for each in own.said] == [each.word for each in wanted.said[: len(own.said)]]


def test_without_its_clock_a_network_does_not_know_the_time_and_is_otherwise_itself() -> None:
    network = ticking_network()
    stopped = without_clock(network)
    times = torch.arange(150).view(50, 3)
    assert not stopped.clock.embed(times).any() and network.clock.embed(times).any()
    ours, others = network.state_dict(), stopped.state_dict()
    assert [name for name in ours if not torch.equal(ours[name], others[name])] == ["clock.hands.weight"]
    sat = NetworkExaminee(network, estimated_word_ms).sit([rendered("quiet")])
    assert sat != NetworkExaminee(stopped, estimated_word_ms).sit([rendered("quiet")])


def test_okay_is_said_once_after_each_sound() -> None:
    sound = np.full(40 * INPUT_SAMPLES, 1e-3, np.float32)
    for begin, end in ((5, 9), (20, 21)):
        sound[begin * INPUT_SAMPLES : end * INPUT_SAMPLES] = 0.1
    scene = replace(rendered("quiet").scene, micro_turns=40)
    (conduct,) = OkayExaminee(estimated_word_ms).sit([RenderedScene(scene, sound)])
    assert [word.word for word in conduct.said] == ["okay", "okay"]
    assert [word.begin for word in conduct.said] == pytest.approx([2.2, 4.6])
    assert not conduct.heard and not conduct.tasks


@dataclass
class Script:
    """A model that gives out what is written, and keeps what it is given."""

    outputs: Mapping[int, MicroTurnOutput]
    given: list[MicroTurnInput] = field(default_factory=list)
    fingerprint: str = "script"

    def open(self, config: SessionConfig) -> ModelSession:
        return ScriptSession(config.session_id)

    def step(self, inputs: Sequence[tuple[ModelSession, MicroTurnInput]]) -> list[MicroTurnOutput]:
        self.given += [given for _, given in inputs]
        return [self.outputs.get(given.index, MicroTurnOutput(given.index)) for _, given in inputs]

    def settle(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """There is nothing to end."""


@dataclass(frozen=True)
class ScriptSession:
    """Holds nothing."""

    session_id: str

    def snapshot(self) -> object:
        return None

    def rewind(self, snapshot: object) -> None:
        """There is nothing to go back to."""

    def close(self) -> None:
        """There is nothing to end."""


def test_words_are_heard_where_their_sound_is_played() -> None:
    ahead = np.zeros(4800 + 960, np.float32)
    outputs = {
        2: MicroTurnOutput(
            2,
            ahead,
            utterances=(Utterance("a", "At 12 o'clock", "reply", start_sample=480),),
            words=(SpokenWord("a", 0, 2880),),
        ),
        # 40 ms of the sound before are still to be played.
        3: MicroTurnOutput(3, ahead[:4800], words=(SpokenWord("a", 1, 2400),)),
        # A sign of listening is nothing that was said.
        8: MicroTurnOutput(
            8,
            ahead[:4800],
            utterances=(Utterance("b", "Uh-huh", "backchannel"),),
            words=(SpokenWord("b", 0, 90),),
        ),
    }
    (conduct,) = ServedExaminee("script", Script(outputs), weaves=True).sit([rendered("quiet")])
    assert [(word.word, round(word.begin, 3), round(word.end, 3)) for word in conduct.said] == [
        ("at", 0.62, 0.72),
        ("twelve", 0.72, 0.94),
    ]
    assert conduct.signs == (8,)


def test_a_word_is_written_down_when_it_and_all_before_it_stand_for_good() -> None:
    def told(index: int, turn: int, text: str, **change: bool) -> MicroTurnOutput:
        transcript = Transcript(turn, text, 0, 100, **{"final": False, **change})
        return MicroTurnOutput(index, transcripts=(transcript,))

    outputs = {
        1: told(1, 0, "sat"),
        2: told(2, 0, "set the"),
        4: told(4, 0, "Set the table.", final=True),
        5: told(5, 1_000_000, "typed words", final=True, typed=True),
        6: told(6, 1, "now"),
        8: MicroTurnOutput(8, actions=(Cancel(None, "user"), Delegate("Check the news", 0, 1))),
    }
    (conduct,) = ServedExaminee("script", Script(outputs), weaves=True).sit([rendered("quiet")])
    assert conduct.heard == ((2, "set"), (2, "the"), (4, "table"), (6, "now"))
    assert conduct.tasks == ((8, ("check", "the", "news")),) and conduct.cancels == (8,)


@pytest.mark.parametrize(("weaves", "turn"), [(True, 7), (False, 10)])
def test_results_wait_for_the_floor_unless_the_model_chooses_the_time(weaves: bool, turn: int) -> None:
    talking = FloorState(Floor.USER, user_finished=False)
    script = Script({n: MicroTurnOutput(n, floor=talking) for n in range(4, 9)})
    script.outputs = {**script.outputs, 9: MicroTurnOutput(9)}
    ServedExaminee("script", script, weaves=weaves).sit([rendered("quiet")])
    assert [given.index for given in script.given if given.woven] == [turn]
    assert [given.text for given in script.given if given.text] == [("what time is it",)]
    assert not any(given.frames for given in script.given)


def test_pictures_are_given_to_those_alone_who_can_use_them() -> None:
    for impossible, count in ((frozenset[str](), 2), (SEEN_TASKS, 0)):
        script = Script({})
        ServedExaminee("script", script, weaves=True, impossible=impossible).sit([rendered("repetitions")])
        # Two pictures, 100 ms apart, the first at the begin of the micro-turn.
        times = [frame.time_ms for frame in script.given[2].frames]
        assert times == [400, 500][:count]
        assert {len(given.frames) for given in script.given} == {count}


def test_the_report_tells_ceiling_floor_and_what_is_not_possible() -> None:
    mixture = Mixture(estimated_cast(), "test")
    blind = ServedExaminee("blind", Script({}), weaves=False, impossible=SEEN_TASKS | {"delegated_exactly"})
    sheets = [
        Sheet(examinee, most)
        for examinee, most in ((TargetExaminee(estimated_word_ms), 3), (SilentExaminee(), 3), (blind, 2))
    ]
    for task in ("repetitions", "errand", "thinking_pause", "cue"):
        scenes = [mixture.scene_of(task, seed) for seed in range(3)]
        batch = [
            RenderedScene(scene, np.zeros(scene.micro_turns * INPUT_SAMPLES, np.float32)) for scene in scenes
        ]
        for sheet in sheets:
            sheet.take(task, batch)
    figures = {figure.key: figure for figure in GOALS}
    counts = [sheet.figure(figures["count_obo"]) for sheet in sheets]
    assert [each.value if each else None for each in counts] == [1.0, 0.0, None]
    pauses = [sheet.figure(figures["pause_taken"]) for sheet in sheets]
    assert [each.scenes if each else None for each in pauses] == [3, 3, 2]

    shown = {str(table.title): table for table in tables(sheets)}
    cells = dict(zip(shown["goals"].columns[0].cells, shown["goals"].columns[4].cells, strict=True))
    assert cells["repetitions: count right within one"] == NOT_POSSIBLE
    # What did not happen is not called impossible, and no row is empty.
    other = {
        name: list(column.cells) for name, column in zip("ftsb", shown["other figures"].columns, strict=True)
    }
    assert other["b"][other["f"].index("reply after")] == "-"
    assert other["b"][other["f"].index("repetitions: error of the count")] == NOT_POSSIBLE
    assert "cut-offs at pauses in stories" not in other["f"]
    about, *told = map(json.loads, lines(sheets, {"seed": 0}))
    assert about["exam"]["seed"] == 0 and about["exam"]["interval"] == 0.95
    nothing = {
        (each["figure"], each["value"]) for each in told if each["examinee"] == "blind" and not each["tasks"]
    }
    assert {("count_obo", None), ("delegated_exactly", None)} <= nothing
    assert sum(each.get("is_met") is True for each in told) >= 4
