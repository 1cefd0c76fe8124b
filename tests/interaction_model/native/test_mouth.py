"""The mouth of many sessions: words at their places, replay to the bit, silence where there is nothing to say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from microturn.interaction_model.native._errors import UnknownWordsError
from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.mouth import Mouth, MouthState, Speech
from microturn.interaction_model.native.renderer import Renderer
from microturn.interaction_model.native.speech_track import QUIET_FRAMES
from microturn.interaction_model.native.vocoder_frames import FRAME_SIZE, TURN_FRAMES, silence

pytestmark = pytest.mark.unit

SMALL = FlowHeadConfig(condition=24, width=32, inner=48, blocks=2, symbol=8, time=16)
PHRASE = ["it's", "seven", "degrees", "and", "sunny", "in", "london", "today"]


@pytest.fixture(scope="module")
def mouth() -> Mouth:
    """A mouth that has learned nothing, whose every weight matters."""
    torch.manual_seed(5)
    mouth = Mouth(SMALL)
    with torch.no_grad():
        for parameter in mouth.parameters():
            parameter.normal_(0, 0.15)
    return mouth


def hidden(size: int = 1) -> Tensor:
    return torch.randn(size, SMALL.condition, generator=torch.Generator().manual_seed(2))


def turns(mouth: Mouth, words: Sequence[str], count: int = 0) -> list[list[str]]:
    """Return for each micro-turn the words that begin in it."""
    begins = mouth.begins(words)
    count = count or begins[-1] // TURN_FRAMES + 1
    return [
        [w for w, at in zip(words, begins[:-1], strict=True) if at // TURN_FRAMES == turn]
        for turn in range(count)
    ]


def spoken(mouth: Mouth, state: MouthState, script: Sequence[Sequence[str]]) -> list[Speech]:
    """Return what one session says, micro-turn by micro-turn."""
    said: list[Speech] = []
    for words in script:
        said.append(mouth.speak(hidden(), [state], [words]))
        state = said[-1].states[0]
    return said


def test_a_micro_turn_is_16_frames_that_the_renderer_takes(mouth: Mouth) -> None:
    speech = mouth.speak(hidden(2), [MouthState(1), MouthState(2)], [["hello"], []])
    assert speech.frames.shape == (2, TURN_FRAMES, FRAME_SIZE)
    assert speech.frames.dtype == torch.float32
    assert np.isfinite(Renderer().render(speech.frames[0].numpy())).all()


def test_who_has_nothing_to_say_is_silent(mouth: Mouth) -> None:
    state = MouthState(4)
    for speech in spoken(mouth, state, [[], []]):
        np.testing.assert_array_equal(speech.frames[0].numpy(), silence(TURN_FRAMES))
        assert speech.ends == ((),)


def test_words_given_in_the_micro_turn_where_they_begin_are_said_in_one_go(mouth: Mouth) -> None:
    begins = mouth.begins(PHRASE)
    script = turns(mouth, PHRASE)
    assert max(len(words) for words in script) < len(PHRASE)
    said = spoken(mouth, MouthState(1), [*script, []])
    ends = [turn * TURN_FRAMES + end for turn, speech in enumerate(said) for end in speech.ends[0]]
    assert len(ends) == len(PHRASE)
    for begin, end, following in zip(begins[:-1], ends, begins[1:], strict=True):
        assert begin < end <= following
    at_once = spoken(mouth, MouthState(1), [PHRASE, *[[]] * len(script)])
    assert [speech.ends for speech in at_once] == [speech.ends for speech in said]


def test_the_frames_are_the_same_whether_later_words_are_known_or_not(mouth: Mouth) -> None:
    script = turns(mouth, PHRASE)
    said = spoken(mouth, MouthState(1), script)
    at_once = spoken(mouth, MouthState(1), [PHRASE, *[[]] * (len(script) - 1)])
    for first, second in zip(said, at_once, strict=True):
        assert torch.equal(first.frames, second.frames)


def test_a_session_says_the_same_bits_alone_and_in_company(mouth: Mouth) -> None:
    phrases = [
        PHRASE,
        ["yes"],
        [],
        ["put", "the", "red", "cup", "on", "the", "table"],
        ["okay", "okay", "stop"],
    ]
    scripts: list[list[list[str]]] = [turns(mouth, phrase, 20) if phrase else [[]] * 20 for phrase in phrases]
    states = [MouthState(seed) for seed in range(len(phrases))]
    company = hidden(len(phrases))
    alone = list(states)
    for turn in range(20):
        words = [script[turn] for script in scripts]
        together = mouth.speak(company, states, words)
        for row, state in enumerate(alone):
            single = mouth.speak(company[row : row + 1], [state], [words[row]])
            assert torch.equal(single.frames[0], together.frames[row])
            assert single.ends[0] == together.ends[row]
            alone[row] = single.states[0]
        states = list(together.states)


def test_a_kept_state_goes_on_as_it_did(mouth: Mouth) -> None:
    script = turns(mouth, PHRASE)
    said = spoken(mouth, MouthState(9), script)
    again = spoken(mouth, said[2].states[0], script[3:])
    for first, second in zip(said[3:], again, strict=True):
        assert torch.equal(first.frames, second.frames)


def test_the_seed_and_the_micro_turn_decide_the_noise(mouth: Mouth) -> None:
    first, again, other, later = (
        mouth.speak(hidden(), [state], [["hello"]]).frames
        for state in (MouthState(1), MouthState(1), MouthState(2), MouthState(1, turn=1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, later)


def test_the_noise_is_normal() -> None:
    torch.manual_seed(0)
    still = Mouth(SMALL)
    torch.nn.init.zeros_(still.flow.velocity.bias)  # a new head's velocity is 0, so that frames are the noise
    state = MouthState(2**62)
    drawn = []
    for _ in range(40):
        speech = still.speak(hidden(), [state], [["hello"]])
        state = speech.states[0]
        drawn.append(speech.frames)
    noise = torch.cat(drawn).flatten()
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    assert abs(float((noise**4).mean()) - 3) < 0.2
    assert abs(float((noise[1:] * noise[:-1]).mean())) < 0.02


def test_the_hidden_state_changes_what_is_drawn(mouth: Mouth) -> None:
    first = mouth.speak(hidden(), [MouthState(1)], [["hello"]])
    second = mouth.speak(hidden() + 1, [MouthState(1)], [["hello"]])
    assert not torch.equal(first.frames, second.frames)


def test_a_stopped_mouth_says_no_further_word_and_falls_silent(mouth: Mouth) -> None:
    speech = mouth.speak(hidden(), [MouthState(1)], [PHRASE])
    state = speech.states[0].stopped()
    for speech in spoken(mouth, state, [[]] * (QUIET_FRAMES // TURN_FRAMES + 1)):
        assert speech.ends == ((),)
    np.testing.assert_array_equal(speech.frames[0].numpy(), silence(TURN_FRAMES))
    assert speech.states[0].is_quiet


def test_a_word_after_a_pause_is_timed_as_a_first_word(mouth: Mouth) -> None:
    length = mouth.begins(["yes"])[-1]
    wait: list[list[str]] = [[]] * (length // TURN_FRAMES + 1)
    after_pause = spoken(mouth, MouthState(1), [["yes"], *wait, ["hello"]])[-1]
    first = mouth.speak(hidden(), [MouthState(1)], [["hello"]])
    assert after_pause.states[0].track.waiting == first.states[0].track.waiting


def test_a_word_outside_the_vocabulary_is_refused(mouth: Mouth) -> None:
    with pytest.raises(UnknownWordsError):
        mouth.speak(hidden(), [MouthState(1)], [["xylophone"]])
    with pytest.raises(UnknownWordsError):
        mouth.begins(["xylophone"])


def test_states_must_be_as_many_as_hidden_rows(mouth: Mouth) -> None:
    with pytest.raises(ValueError, match=r"\(2, 1, 1\)"):
        mouth.speak(hidden(2), [MouthState(1)], [["hello"]])
