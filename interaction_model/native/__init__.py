"""The native model: one network that hears, sees, waits and speaks on the beat.

Knows tensors and micro-turns; nothing of sockets, the bus or how it was trained. Needs the extra `native`.
"""

from microturn.interaction_model.native._errors import BadConfigError as BadConfigError
from microturn.interaction_model.native._errors import BadEmbeddingsError as BadEmbeddingsError
from microturn.interaction_model.native._errors import BadFramesError as BadFramesError
from microturn.interaction_model.native._errors import CheckpointMissingError as CheckpointMissingError
from microturn.interaction_model.native._errors import ClosedSessionError as ClosedSessionError
from microturn.interaction_model.native._errors import CorruptCheckpointError as CorruptCheckpointError
from microturn.interaction_model.native._errors import ForeignCheckpointError as ForeignCheckpointError
from microturn.interaction_model.native._errors import FutureCheckpointError as FutureCheckpointError
from microturn.interaction_model.native._errors import NoShippedWeightsError as NoShippedWeightsError
from microturn.interaction_model.native._errors import TooManySessionsError as TooManySessionsError
from microturn.interaction_model.native._errors import UnknownWordsError as UnknownWordsError
from microturn.interaction_model.native._errors import VocabularyMismatchError as VocabularyMismatchError

__all__ = (
    "BadConfigError",
    "BadEmbeddingsError",
    "BadFramesError",
    "CheckpointMissingError",
    "ClosedSessionError",
    "CorruptCheckpointError",
    "ForeignCheckpointError",
    "FutureCheckpointError",
    "NoShippedWeightsError",
    "TooManySessionsError",
    "UnknownWordsError",
    "VocabularyMismatchError",
)
