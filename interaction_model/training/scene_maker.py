"""Makes the scenes of a plan: everything that a plan names, loaded once, and put together.

The one place that knows all who speak in scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from microturn.interaction_model.native.own_words import OwnWords
from microturn.interaction_model.native.voice_file import load_mouth
from microturn.interaction_model.training import background_talk, digit_people, hearing_task, reading_task
from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.audio_rate import read_sound
from microturn.interaction_model.training.background_talk import TalkingOthers
from microturn.interaction_model.training.cast import Cast, Voices
from microturn.interaction_model.training.clip_bank import ClipBank
from microturn.interaction_model.training.digit_people import DigitPeople
from microturn.interaction_model.training.feature_shards import stored_scene
from microturn.interaction_model.training.hearing_task import BankPhrases
from microturn.interaction_model.training.mixing import TASKS, Mixture, Task
from microturn.interaction_model.training.mouth_teacher import MouthTeacher
from microturn.interaction_model.training.own_voice import OwnVoice
from microturn.interaction_model.training.phrase_sounds import PhraseSounds, SoundsByPrefix
from microturn.interaction_model.training.phrases import draw_phrase
from microturn.interaction_model.training.reading_task import Readers
from microturn.interaction_model.training.real_speech import (
    DigitPart,
    spoken_digits,
    spoken_texts,
    talk_files,
)
from microturn.interaction_model.training.scene import MICRO_TURN_MS, Scene
from microturn.interaction_model.training.scene_plan import SHARD_MINUTES, ScenePlan
from microturn.interaction_model.training.scene_shards import StoredScene
from microturn.interaction_model.training.scene_sound import SceneSound
from microturn.interaction_model.training.scene_voices import SceneVoices
from microturn.interaction_model.training.speakers import Speaker, SpeakerPool
from microturn.interaction_model.training.synthesis import Synthesis
from microturn.interaction_model.training.transcripts import TranscriptFile
from microturn.interaction_model.training.utterances import Synthesizer
from microturn.protocols import Samples

BABBLE_CLIPS = 24
"""Clips of other people that babble is made of."""
_SHARD_TURNS = SHARD_MINUTES * 60_000 // MICRO_TURN_MS


class SceneMaker:
    """Makes scenes; one thread at a time."""

    def __init__(
        self, plan: ScenePlan, load: Callable[[ScenePlan], Synthesizer] = lambda plan: Synthesis(plan.engines)
    ) -> None:
        """Load all that the plan names; `load` gives who speaks with synthetic voices.

        Raises:
            BadTrainConfigError: the bank is of other speakers than the plan.
            MicroturnError: something that the plan names is missing or broken.
        """
        synthesizer = load(plan)
        made = SceneVoices(synthesizer, SpeakerPool(plan.engines, plan.speakers))
        voices, tasks, recorded = _recorded(plan, made)
        own_words = OwnWords(load_mouth(plan.mouth).durations)
        self._plan = plan
        cast = Cast(voices, own_words)
        self._mixture = Mixture(cast, plan.split, plan.all_weights, tasks, plan.written_share)
        self._sound = SceneSound(SoundsByPrefix(recorded, made), _babble(plan, synthesizer))
        self._teacher = MouthTeacher(OwnVoice(), own_words) if plan.has_frames else None

    def scene_of(self, task: str, number: int) -> Scene:
        """Draw a scene of one task, without its sound."""
        return self._mixture.scene_of(task, number)

    def sound_of(self, scene: Scene) -> Samples:
        """Return what the microphone hears of a scene of this maker, 16 kHz, `(N * 3200,)`."""
        return self._sound.render(scene)

    def shard(self, number: int) -> Iterator[StoredScene]:
        """Yield the scenes of a shard, until it is full."""
        first, turns = self._plan.first_scene(number), 0
        for scene_number in range(first, self._plan.first_scene(number + 1)):
            if turns >= _SHARD_TURNS:
                return
            scene = self._mixture.scene(scene_number)
            turns += scene.micro_turns
            mouth = self._teacher.targets(scene) if self._teacher else None
            yield stored_scene(scene, self._sound, mouth)


def _recorded(
    plan: ScenePlan, made: SceneVoices
) -> tuple[Voices, Mapping[str, Task], Mapping[str, PhraseSounds]]:
    """Who speaks, who writes the tasks, and whose sound is recorded."""
    voices: Voices = made
    tasks: dict[str, Task] = dict(TASKS)
    recorded: dict[str, PhraseSounds] = {}
    if plan.people is not None:
        people = DigitPeople(spoken_digits(plan.people, _part(plan)))
        others = TalkingOthers(made, talk_files(plan.speakers, plan.people), plan.talk_share)
        voices = others
        tasks["digits"] = partial(people.tell, share=plan.people_share)
        recorded |= {digit_people.PREFIX: people, background_talk.PREFIX: others}
    if plan.bank is not None:
        phrases = BankPhrases(_bank(plan.bank, plan))
        tasks[hearing_task.TASK] = phrases.hear
        recorded[hearing_task.PREFIX] = phrases
    if plan.transcripts is not None:
        readers = _readers(plan.transcripts, plan)
        tasks[reading_task.TASK] = readers.read
        recorded[reading_task.PREFIX] = readers
    return voices, tasks, recorded


def _part(plan: ScenePlan) -> DigitPart:
    return DigitPart.TRAIN if plan.split == "train" else DigitPart.HELD_OUT


def _bank(folder: Path, plan: ScenePlan) -> ClipBank:
    bank = ClipBank(folder)
    if Speaker.named(bank.speaker(0)).split is not plan.speakers:
        expected = f"a bank of {plan.speakers} speakers"
        raise BadTrainConfigError("bank", expected=expected, got=bank.speaker(0))
    return bank


def _readers(file: Path, plan: ScenePlan) -> Readers:
    transcripts = TranscriptFile.load(file)
    if transcripts.split is not plan.speakers:
        expected = f"of {plan.speakers} people"
        raise BadTrainConfigError("transcripts", expected=expected, got=f"{transcripts.split} people")
    is_training = plan.split == "train"
    recordings = talk_files(plan.speakers, plan.people) if is_training else spoken_texts(plan.people)
    return Readers(recordings, transcripts.files)


def _babble(plan: ScenePlan, synthesizer: Synthesizer) -> Sequence[Samples]:
    """Clips of other people: recordings if there are any, else phrases of the plan's speakers."""
    generator = np.random.default_rng([plan.seed, 5])
    if plan.people is not None:
        files = talk_files(plan.speakers, plan.people)
        return [read_sound(files[int(at)]) for at in islice(generator.permutation(len(files)), BABBLE_CLIPS)]
    pool = SpeakerPool(plan.engines, plan.speakers)
    return [
        synthesizer.say(draw_phrase(generator), pool.draw(generator), 0).audio for _ in range(BABBLE_CLIPS)
    ]
