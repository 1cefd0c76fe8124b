"""Messages: the words in which the parts of microturn speak to one another.

Pure data, versioned, with golden files in `tests/protocols/golden`. Knows nothing of files, sockets, models or
clocks; needs only pydantic and numpy.
"""

from microturn.protocols._errors import MicroturnError as MicroturnError
from microturn.protocols._errors import ProtocolError as ProtocolError
from microturn.protocols._errors import UnavailableError as UnavailableError
from microturn.protocols._errors import UnknownVersionError as UnknownVersionError
from microturn.protocols._errors import UserError as UserError
from microturn.protocols.context import INLINE_LIMIT_BYTES as INLINE_LIMIT_BYTES
from microturn.protocols.context import ContextPackage as ContextPackage
from microturn.protocols.context import Reference as Reference
from microturn.protocols.context import RunningDelegation as RunningDelegation
from microturn.protocols.context import TurnRecord as TurnRecord
from microturn.protocols.delegation import TERMINAL as TERMINAL
from microturn.protocols.delegation import DelegationEvent as DelegationEvent
from microturn.protocols.delegation import EventKind as EventKind
from microturn.protocols.delegation import Speech as Speech
from microturn.protocols.delegation import SpeechKind as SpeechKind
from microturn.protocols.delegation import WeaveMode as WeaveMode
from microturn.protocols.ledger import Promise as Promise
from microturn.protocols.ledger import PromiseState as PromiseState
from microturn.protocols.ledger import SessionLedger as SessionLedger
from microturn.protocols.micro_turn import INPUT_RATE_HZ as INPUT_RATE_HZ
from microturn.protocols.micro_turn import INPUT_SAMPLES as INPUT_SAMPLES
from microturn.protocols.micro_turn import MICRO_TURN_MS as MICRO_TURN_MS
from microturn.protocols.micro_turn import OUTPUT_LEAD_SAMPLES as OUTPUT_LEAD_SAMPLES
from microturn.protocols.micro_turn import OUTPUT_RATE_HZ as OUTPUT_RATE_HZ
from microturn.protocols.micro_turn import OUTPUT_SAMPLES as OUTPUT_SAMPLES
from microturn.protocols.micro_turn import SILENCE as SILENCE
from microturn.protocols.micro_turn import Action as Action
from microturn.protocols.micro_turn import Answer as Answer
from microturn.protocols.micro_turn import Cancel as Cancel
from microturn.protocols.micro_turn import Delegate as Delegate
from microturn.protocols.micro_turn import Dismiss as Dismiss
from microturn.protocols.micro_turn import Floor as Floor
from microturn.protocols.micro_turn import FloorState as FloorState
from microturn.protocols.micro_turn import Frame as Frame
from microturn.protocols.micro_turn import MicroTurnInput as MicroTurnInput
from microturn.protocols.micro_turn import MicroTurnOutput as MicroTurnOutput
from microturn.protocols.micro_turn import OpenQuestion as OpenQuestion
from microturn.protocols.micro_turn import Resume as Resume
from microturn.protocols.micro_turn import Samples as Samples
from microturn.protocols.micro_turn import SpokenWord as SpokenWord
from microturn.protocols.micro_turn import Transcript as Transcript
from microturn.protocols.micro_turn import Update as Update
from microturn.protocols.micro_turn import Utterance as Utterance
from microturn.protocols.micro_turn import UtteranceSource as UtteranceSource
from microturn.protocols.micro_turn import WordsHeard as WordsHeard
from microturn.protocols.micro_turn import WovenText as WovenText
from microturn.protocols.receipt import SETTLED as SETTLED
from microturn.protocols.receipt import Receipt as Receipt
from microturn.protocols.receipt import ReceiptState as ReceiptState
from microturn.protocols.tool_spec import Isolation as Isolation
from microturn.protocols.tool_spec import SideEffect as SideEffect
from microturn.protocols.tool_spec import ToolSpec as ToolSpec

__all__ = (
    "INLINE_LIMIT_BYTES",
    "INPUT_RATE_HZ",
    "INPUT_SAMPLES",
    "MICRO_TURN_MS",
    "OUTPUT_LEAD_SAMPLES",
    "OUTPUT_RATE_HZ",
    "OUTPUT_SAMPLES",
    "SETTLED",
    "SILENCE",
    "TERMINAL",
    "Action",
    "Answer",
    "Cancel",
    "ContextPackage",
    "Delegate",
    "DelegationEvent",
    "Dismiss",
    "EventKind",
    "Floor",
    "FloorState",
    "Frame",
    "Isolation",
    "MicroTurnInput",
    "MicroTurnOutput",
    "MicroturnError",
    "OpenQuestion",
    "Promise",
    "PromiseState",
    "ProtocolError",
    "Receipt",
    "ReceiptState",
    "Reference",
    "Resume",
    "RunningDelegation",
    "Samples",
    "SessionLedger",
    "SideEffect",
    "Speech",
    "SpeechKind",
    "SpokenWord",
    "ToolSpec",
    "Transcript",
    "TurnRecord",
    "UnavailableError",
    "UnknownVersionError",
    "Update",
    "UserError",
    "Utterance",
    "UtteranceSource",
    "WeaveMode",
    "WordsHeard",
    "WovenText",
)
