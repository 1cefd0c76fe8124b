"""The marks of one examinee, task by task, and the figures that they come to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from microturn.interaction_model.training.exam import examine
from microturn.interaction_model.training.exam_figures import PEOPLE, Figure
from microturn.interaction_model.training.exam_scenes import RenderedScene
from microturn.interaction_model.training.examinees import Examinee
from microturn.interaction_model.training.hearing_marks import digit_marks
from microturn.interaction_model.training.marks import Estimate, Mark, Marks, estimate


class Sheet:
    """What an examinee did; grows with every task.

    Args:
        examinee: who is examined.
        scenes: of each task, at most; the first ones.
    """

    def __init__(self, examinee: Examinee, scenes: int) -> None:
        self.name = examinee.name
        self.impossible = examinee.impossible
        self._examinee = examinee
        self._most = scenes
        self._marks: dict[str, list[Marks]] = defaultdict(list)
        self._found: dict[tuple[Figure, str | None], Estimate | None] = {}

    def take(self, task: str, scenes: Sequence[RenderedScene]) -> None:
        """Let the examinee sit some scenes of a task, and score it; blocks."""
        left = self._most - len(self._marks[task])
        if task in self.impossible or left <= 0:
            return
        self._found.clear()
        asked = scenes[:left]
        for rendered, conduct in zip(asked, self._examinee.sit(asked), strict=True):
            marks = dict(examine(rendered.scene, conduct))
            if task == PEOPLE:
                marks |= _gathered(digit_marks(rendered.scene, conduct))
            self._marks[task].append(marks)

    @property
    def tasks(self) -> list[str]:
        """Those with marks, in the order in which they were sat."""
        return [task for task, marks in self._marks.items() if marks]

    def marked(self, task: str | None = None) -> set[str]:
        """Names of the figures that there are marks of, in a task or at all."""
        tasks = self.tasks if task is None else [task]
        return {key for each in tasks for marks in self._marks.get(each, ()) for key in marks}

    def figure(self, figure: Figure, task: str | None = None) -> Estimate | None:
        """Estimate a figure, from a task or from all tasks that it covers; None without marks."""
        if (figure, task) not in self._found:
            self._found[figure, task] = self._estimate(figure, task)
        return self._found[figure, task]

    def _estimate(self, figure: Figure, task: str | None) -> Estimate | None:
        if figure.key in self.impossible:
            return None
        tasks = [each for each in self.tasks if figure.covers(each)] if task is None else [task]
        scenes = [marks for each in tasks for marks in self._marks.get(each, ())]
        return estimate(figure.key, figure.statistic, scenes)


def _gathered(named: Iterable[tuple[str, Mark]]) -> dict[str, list[Mark]]:
    gathered: dict[str, list[Mark]] = defaultdict(list)
    for key, mark in named:
        gathered[key].append(mark)
    return gathered
