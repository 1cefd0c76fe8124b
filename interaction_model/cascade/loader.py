"""Makes a cascade from the shipped weights."""

from __future__ import annotations

from microturn.interaction_model.cascade.dialogue import Dialogue
from microturn.interaction_model.cascade.ears import Ears
from microturn.interaction_model.cascade.fingerprint import cascade_fingerprint
from microturn.interaction_model.cascade.model import CascadeModel
from microturn.interaction_model.cascade.recognition_service import RecognitionService
from microturn.interaction_model.cascade.recognizer import MoonshineRecognizer
from microturn.interaction_model.cascade.router import IntentRouter, Replies
from microturn.interaction_model.cascade.segmenter import Segmenter
from microturn.interaction_model.cascade.sentence_embedding import SentenceEmbedder
from microturn.interaction_model.cascade.smart_turn import SmartTurn
from microturn.interaction_model.cascade.turn_end import TurnEndJudge, TurnSoundService
from microturn.interaction_model.cascade.vad import SileroVad
from microturn.interaction_model.cascade.voice import Voice
from microturn.weights import locate


def load_cascade() -> CascadeModel:
    """Load the ears, the router and the voice; about 3 s and 0.5 GB of memory. Blocks.

    Raises:
        WeightMissingError: a weight has not been fetched; the text has the command that does.
        SpeechExtraMissingError: a package of the extra `speech` is not installed.
    """
    ears = Ears(
        SileroVad(locate("silero-vad")),
        Segmenter(),
        RecognitionService(MoonshineRecognizer.shipped()),
        TurnSoundService(SmartTurn(locate("smart-turn"))),
        TurnEndJudge(),
    )
    router = IntentRouter(SentenceEmbedder(locate("minilm"), locate("minilm-tokenizer")))
    replies = Replies()
    return CascadeModel(
        ears, Voice(), lambda seed: Dialogue(router, replies, seed), fingerprint=cascade_fingerprint()
    )
