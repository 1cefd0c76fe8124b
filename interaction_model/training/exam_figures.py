"""The figures of the exam: what each is called, what it is of its marks, and what is aimed at.

The one place where goals stand. Whether a goal is met says nothing about the interval, which is printed beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from microturn.interaction_model.training.hearing_marks import PEOPLE_VOICE
from microturn.interaction_model.training.marks import Estimate, Statistic
from microturn.interaction_model.training.reading_task import TASK as READING

PEOPLE = "people_digits"
"""Name, among the tasks, of digits said by people who are not trained on."""
READINGS = READING
"""Name, among the tasks, of texts read by people who are not trained on."""
RECORDED_TASKS = frozenset({PEOPLE, READINGS})
"""Tasks in which the user is a recording, which say something about hearing alone."""
SEEN_TASKS = frozenset(
    {"repetitions", "action_span", "appearance", "change_of_colour", "change_of_side", "description"}
)
"""Tasks that nobody can do who gets no pictures."""
_ERRANDS = ("errand", "cancelled_errand", "corrected_errand")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure."""

    key: str
    """Name of its marks."""
    title: str
    statistic: Statistic = Statistic.SHARE
    unit: str = "%"
    """Figures in `%` are shown times 100."""
    tasks: tuple[str, ...] = ()
    """Those that it is taken from; if empty all but `RECORDED_TASKS`."""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def goal(self) -> float | None:
        """What is aimed at; None if nothing is."""
        return self.at_most if self.at_least is None else self.at_least

    def covers(self, task: str) -> bool:
        """Whether scenes of a task count."""
        return task in self.tasks if self.tasks else task not in RECORDED_TASKS

    def is_met(self, found: Estimate) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.at_least is not None:
            return found.value >= self.at_least
        return found.value <= self.at_most if self.at_most is not None else None

    def shown(self, value: float) -> str:
        """Write a value of this figure, with its unit."""
        return shown(value, self.unit)


def shown(value: float, unit: str) -> str:
    """Write a value with its unit."""
    return f"{100 * value:.0f} %" if unit == "%" else f"{value:.2f}{unit}"


GOALS: tuple[Figure, ...] = (
    Figure("digits_right", "digits of people never heard", Statistic.MEAN, tasks=(PEOPLE,), at_least=0.95),
    Figure("clock_hit", "clock: said on time", at_least=0.80),
    Figure("cue_hit", "cue: said in time", at_least=0.80),
    Figure("cue_false_alarms_per_minute", "cue: false alarms", Statistic.RATE, "/min", at_most=1.0),
    Figure("count_obo", "repetitions: count right within one", at_least=0.60),
    Figure("watch_pauc", "watch: PAUC", Statistic.MEAN, at_least=0.50),
    Figure("span_tiou", "span: tIoU", Statistic.MEAN, "", at_least=0.60),
    Figure("pause_taken", "cut-offs at thinking pauses", tasks=("thinking_pause",), at_most=0.10),
    Figure(
        "decided_rightly",
        "delegate or answer, decided rightly",
        tasks=(*_ERRANDS, "conversation"),
        at_least=0.90,
    ),
)
"""What the trained model is to reach; PAUC is from 0 to 1 here, where its source writes 0 to 100."""

OTHERS: tuple[Figure, ...] = (
    Figure("word_error_rate", "words of the user: errors", Statistic.RATE),
    Figure("word_error_rate", "words of people reading: errors", Statistic.RATE, tasks=(READINGS,)),
    Figure("heard_latency_turns", "a word is written down after", Statistic.MEDIAN, " micro-turns"),
    Figure("heard_in_vain_per_minute", "words written down where none was said", Statistic.RATE, "/min"),
    Figure("digits_single", "single digits of people", tasks=(PEOPLE,)),
    Figure("digits_of_strings", "digits of people, in strings", Statistic.MEAN, tasks=(PEOPLE,)),
    Figure("reply_hit", "replies right and in time"),
    Figure("reply_latency_s", "reply after", Statistic.MEDIAN, " s"),
    Figure("turn_cut_off", "turns of the user cut off"),
    Figure("pause_taken", "cut-offs at pauses in stories", tasks=("story",)),
    Figure("others_taken", "other people answered"),
    Figure("stop_latency_s", "silent after an interruption", Statistic.MEDIAN, " s"),
    Figure("backchannel_held", "goes on under the user's hum"),
    Figure("sign_hit", "signs of listening in stories"),
    Figure("false_signs_per_minute", "signs of listening anywhere else", Statistic.RATE, "/min"),
    Figure("delegated", "errands handed over in time"),
    Figure("delegated_exactly", "errands with exactly the right words"),
    Figure("answered", "other requests answered, not handed over"),
    Figure("false_delegations_per_minute", "false delegations", Statistic.RATE, "/min"),
    Figure("cancelled", "errands called off"),
    Figure("false_cancels_per_minute", "called off for nothing", Statistic.RATE, "/min"),
    Figure("result_hit", "results said at the next pause"),
    Figure("result_over_user", "results said over the user"),
    Figure("count_hit", "repetitions: each counted in time"),
    Figure("count_mae", "repetitions: error of the count", Statistic.MEAN, ""),
    Figure("span_hit", "span: start and stop in time"),
    Figure("stray_words_per_minute", "words that nothing asked for", Statistic.RATE, "/min"),
)


def figures_in(keys: Iterable[str]) -> tuple[Figure, ...]:
    """Return those figures that there are marks of, in the order of goals and others; voices' word errors last."""
    present = set(keys)
    named = tuple(figure for figure in (*GOALS, *OTHERS) if figure.key in present)
    known = {figure.key for figure in named}
    voices = sorted(key for key in present - known if key.startswith(_BY_VOICE))
    return (*named, *(_of_voice(key.removeprefix(_BY_VOICE)) for key in voices))


_BY_VOICE = "word_error_rate_"


def _of_voice(voice: str) -> Figure:
    tasks = (PEOPLE,) if voice == PEOPLE_VOICE else ()
    return Figure(f"{_BY_VOICE}{voice}", f"words of the user: errors, {voice}", Statistic.RATE, tasks=tasks)
