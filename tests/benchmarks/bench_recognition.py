"""What recognition costs and how much of it is wrong, on recordings of people.

    python tests/benchmarks/bench_recognition.py FOLDER_WITH_librispeech

Word error rate is counted after lower-casing and the removal of signs, with numbers as words; CPU is process time of
one thread. Partials are measured as in a live session: the open sound again at every beat, with long utterances
committed at their pauses. Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from microturn.interaction_model.cascade.recognition_service import RecognitionService
from microturn.interaction_model.cascade.recognizer import MoonshineRecognizer
from microturn.interaction_model.cascade.router import IntentRouter
from microturn.interaction_model.cascade.segmenter import Segmenter
from microturn.interaction_model.cascade.sentence_embedding import SentenceEmbedder
from microturn.interaction_model.cascade.smart_turn import SmartTurn
from microturn.interaction_model.cascade.utterance import Utterance
from microturn.interaction_model.cascade.vad import SileroVad
from microturn.interaction_model.cascade.voice import Voice
from microturn.protocols import INPUT_RATE_HZ, INPUT_SAMPLES, Samples
from microturn.weights import locate

_SPELLED = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint", "ok": "okay"}


@dataclass(slots=True)
class Tally:
    """What has been counted."""

    errors: int = 0
    words: int = 0
    audio_s: float = 0.0
    cpu_s: float = 0.0


def normal(text: str) -> list[str]:
    """Return the words that are compared."""
    words = re.findall(r"[a-z0-9']+", text.lower().replace("\u2019", "'"))
    return [_SPELLED.get(word, word) for word in words]


def distance(wanted: list[str], heard: list[str]) -> int:
    """Return how many words have to be put in, left out or changed."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(wanted, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def whole(recognizer: MoonshineRecognizer, sound: Samples, wanted: list[str], tally: Tally) -> None:
    """Recognise a recording in one piece."""
    begin = time.process_time()
    heard = recognizer.transcribe(sound).text
    tally.cpu_s += time.process_time() - begin
    tally.audio_s += sound.size / INPUT_RATE_HZ
    tally.errors += distance(wanted, normal(heard))
    tally.words += len(wanted)


def streamed(
    recognizer: MoonshineRecognizer, vad: SileroVad, sound: Samples, wanted: list[str], tally: Tally
) -> list[float]:
    """Recognise a recording beat by beat; return the CPU milliseconds of each partial."""
    service, segmenter, costs = RecognitionService(recognizer), Segmenter(), list[float]()
    utterance, text = Utterance(0, 0), ""
    vad_state, state = vad.start(), segmenter.start()
    padded = np.pad(sound, (0, -sound.size % INPUT_SAMPLES))
    for end in range(INPUT_SAMPLES, padded.size + 1, INPUT_SAMPLES):
        piece = padded[end - INPUT_SAMPLES : end]
        vad_state, windows = vad.step(vad_state, piece)
        state, activity = segmenter.step(state, windows, end)
        utterance = utterance.heard(piece, activity.gaps)
        begin = time.process_time()
        service.submit("bench", utterance.job())
        service.settle()
        costs.append((time.process_time() - begin) * 1000)
        if (partial := service.poll("bench")) is not None:
            utterance, text = utterance.read(partial), partial.text
    service.close()
    tally.cpu_s += sum(costs) / 1000
    tally.audio_s += sound.size / INPUT_RATE_HZ
    tally.errors += distance(wanted, normal(text))
    tally.words += len(wanted)
    return costs


def memory_mb() -> float:
    """Return the most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder / "librispeech" / "dev"
    before = memory_mb()
    recognizer, vad = MoonshineRecognizer.shipped(), SileroVad(locate("silero-vad"))
    once, live, partials = Tally(), Tally(), list[float]()
    for line in (folder / "transcripts.tsv").read_text("utf-8").splitlines():
        name, text = line.split("\t")
        sound: Samples = soundfile.read(folder / name, dtype="float32")[0]
        whole(recognizer, sound, normal(text), once)
        partials += streamed(recognizer, vad, sound, normal(text), live)
    others = (
        SmartTurn(locate("smart-turn")),
        IntentRouter(SentenceEmbedder(locate("minilm"), locate("minilm-tokenizer"))),
        Voice(),
    )
    p50, p95, p99 = (float(p) for p in np.percentile(partials, [50, 95, 99]).round(1))
    figures = {
        "utterances_s": round(once.audio_s, 1),
        "wer_whole": round(once.errors / once.words, 4),
        "wer_streamed": round(live.errors / live.words, 4),
        "rtf_whole": round(once.cpu_s / once.audio_s, 4),
        "rtf_streamed": round(live.cpu_s / live.audio_s, 4),
        "partial_p50_ms": p50,
        "partial_p95_ms": p95,
        "partial_p99_ms": p99,
        "peak_memory_of_all_parts_mb": round(memory_mb() - before),
        "parts": 2 + len(others),
    }
    for name, value in figures.items():
        print(f"{name:28}{value:>12}")
    print(json.dumps({"benchmark": "recognition", **figures}))


if __name__ == "__main__":
    main()
