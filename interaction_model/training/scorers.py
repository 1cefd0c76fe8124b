"""The formulas by which interactivity is scored, as pure functions of times and words.

Times are seconds on one clock, the user's. Nothing here knows how a reply was made or which model spoke, and no
function returns a figure for an empty set: a rate of nothing is `None`, so that it can never be averaged in.

Sources: Full-Duplex-Bench v1 (arXiv 2503.04721 and its scoring code) for turns; ProactiveVideoQA (arXiv 2507.09313)
for `pauc`; TransRAC (CVPR 2022) for counting. The windows of clock and cue are our choice: the suites that inspired
them (TimeSpeak, CueSpeak) publish none, so these figures are not comparable with theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[float, float]
"""Begin and end in seconds."""

PAUC_TOP_SCORE = 2
"""The judge's best mark; 0 and 1 are the others."""
_MERGE_GAP = 0.5
_PAUC_START = 0.5
"""The mark of a reply span before anything was said; silence is thereby worth a quarter."""


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """One word that the assistant was heard to say."""

    word: str
    begin: float
    end: float


def mean(values: Sequence[float]) -> float | None:
    """The mean, or nothing if there is nothing to average."""
    return sum(values) / len(values) if values else None


def takes_turn(words: Sequence[SpokenWord], *, most_words: int = 3) -> bool:
    """Whether an answer takes the floor, as Full-Duplex-Bench's code decides it for turn-over rates.

    Silence does not, nor does a backchannel: less than a second from the first word's begin to the last one's end,
    and at most `most_words`. The code says 3; the paper says fewer than two (`most_words=1`).
    """
    if not words:
        return False
    length = max(word.end for word in words) - min(word.begin for word in words)
    return not (length < 1.0 and len(words) <= most_words)


def turn_over_rate(answers: Sequence[Sequence[SpokenWord]], *, most_words: int = 3) -> float | None:
    """TOR: the share of `answers` that take the floor."""
    return mean([float(takes_turn(words, most_words=most_words)) for words in answers])


def reply_latency(words: Sequence[SpokenWord], user_end: float, *, clip: bool = False) -> float | None:
    """Seconds from the user's end to the first word, negative where the user was cut off; nothing if no word came.

    `clip=True` makes negatives 0, as Full-Duplex-Bench does: print cut-offs beside it then.
    """
    if not words:
        return None
    latency = min(word.begin for word in words) - user_end
    return max(0.0, latency) if clip else latency


def stop_latency(words: Sequence[SpokenWord], interruption_begin: float) -> float:
    """Seconds for which the stretch of speech under way at an interruption goes on; 0 if nothing was being said.

    Words belong to one stretch if at most half a second lies between them, the merge gap of Full-Duplex-Bench
    v1.5's code for the model's channel.
    """
    for begin, end in _stretches(words):
        if begin <= interruption_begin < end:
            return end - interruption_begin
    return 0.0


def _stretches(words: Sequence[SpokenWord]) -> list[Span]:
    merged: list[Span] = []
    for word in sorted(words, key=lambda each: each.begin):
        if merged and word.begin <= merged[-1][1] + _MERGE_GAP:
            merged[-1] = (merged[-1][0], max(merged[-1][1], word.end))
        else:
            merged.append((word.begin, word.end))
    return merged


def window_hit(time: float | None, window: Span, *, meaning_is_right: bool = True) -> bool:
    """Whether the right thing was said inside its window, both ends included; `None` is silence."""
    return time is not None and meaning_is_right and window[0] <= time <= window[1]


@dataclass(frozen=True, slots=True)
class CueScore:
    """How a run of cues was answered."""

    hits: int
    cues: int
    false_alarms: int
    heard_s: float
    """Length of what was listened to."""

    @property
    def hit_rate(self) -> float | None:
        """Share of cues answered inside their window."""
        return self.hits / self.cues if self.cues else None

    @property
    def false_alarms_per_minute(self) -> float | None:
        """Replies that answer no cue, by the time listened."""
        return 60 * self.false_alarms / self.heard_s if self.heard_s > 0 else None


def cue_score(replies: Sequence[float], windows: Sequence[Span], heard_s: float) -> CueScore:
    """Match replies to cue windows one to one and count the rest as false alarms.

    The window that closes first takes the first reply inside it, which is the largest matching there is.
    """
    left = sorted(replies)
    hits = 0
    for window in sorted(windows, key=lambda each: each[1]):
        reply = next((time for time in left if window_hit(time, window)), None)
        if reply is not None:
            left.remove(reply)
            hits += 1
    return CueScore(hits, len(windows), len(left), heard_s)


def temporal_iou(said: Span | None, label: Span) -> float:
    """Intersection over union of two intervals; 0 for silence, or if "stop" came before "start"."""
    if label[1] <= label[0]:
        raise ValueError(f"label must end after it begins, got {label!r}")
    if said is None or said[1] <= said[0]:
        return 0.0
    shared = min(said[1], label[1]) - max(said[0], label[0])
    return max(0.0, shared) / (max(said[1], label[1]) - min(said[0], label[0]))


def online_count(said: Sequence[tuple[float, int]], repetition_ends: Sequence[float]) -> int | None:
    """The last number said after the end of the last but one repetition; nothing if none was.

    With a single repetition there is no last but one, and every number counts. `said` holds (time, number).
    """
    after = repetition_ends[-2] if len(repetition_ends) > 1 else float("-inf")
    numbers = [number for time, number in sorted(said) if time > after]
    return numbers[-1] if numbers else None


def off_by_one(count: int | None, truth: int) -> bool:
    """OBO of one clip: whether the count is right within one; silence is wrong, whatever the truth."""
    return count is not None and abs(count - truth) <= 1


def count_error(count: int | None, truth: int) -> float:
    """|count - truth| / truth, the term of MAE; silence counts as 0, hence an error of 1.

    TransRAC's code divides by truth + 0.1; the paper's formula, used here, does not.
    """
    if truth < 1:
        raise ValueError(f"truth must be at least 1 repetition, got {truth!r}")
    return abs((count or 0) - truth) / truth


def pauc(span: Span, replies: Sequence[tuple[float, int]], *, weight: float = 0.5) -> float:
    """Area under the marks of the replies to one reply span, from 0 to 1; silence gives 0.25.

    `replies` holds (time, mark of everything said so far: 0, 1 or 2), times inside `span`. `weight` w pulls a reply's
    time towards the begin, `t' = a + (1 - w)(t - a)`: at 1 only the marks count, at 0 their times count in full.
    """
    begin, end = span
    if end <= begin:
        raise ValueError(f"span must end after it begins, got {span!r}")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must lie in [0, 1], got {weight!r}")
    area, mark, since = 0.0, _PAUC_START, begin
    for time, next_mark in sorted(replies):
        _check_reply(time, next_mark, span)
        pulled = begin + (1 - weight) * (time - begin)
        area += (pulled - since) * mark
        mark, since = next_mark, pulled
    area += (end - since) * mark
    return area / ((end - begin) * PAUC_TOP_SCORE)


def _check_reply(time: float, mark: int, span: Span) -> None:
    if not span[0] <= time <= span[1]:
        raise ValueError(f"replies must lie inside the span {span!r}, got one at {time!r}")
    if mark not in range(PAUC_TOP_SCORE + 1):
        raise ValueError(f"marks must be 0, 1 or 2, got {mark!r}")
