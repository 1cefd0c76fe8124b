"""Test helpers for whoever builds on the runtime: scripted models and backgrounds, and a virtual-time stage.

They fake the outside (weights, servers, people), never the runtime itself.
"""

from microturn.runtime.clock import VirtualClock as VirtualClock
from microturn.runtime.testing.faulty_link import Faults as Faults
from microturn.runtime.testing.faulty_link import FaultyLink as FaultyLink
from microturn.runtime.testing.faulty_link import LinkCounters as LinkCounters
from microturn.runtime.testing.listener import Listener as Listener
from microturn.runtime.testing.scripted_background import Result as Result
from microturn.runtime.testing.scripted_background import ScriptedBackground as ScriptedBackground
from microturn.runtime.testing.scripted_model import WORD_MS as WORD_MS
from microturn.runtime.testing.scripted_model import Answer as Answer
from microturn.runtime.testing.scripted_model import ScriptedModel as ScriptedModel
from microturn.runtime.testing.scripted_model import ToneVoice as ToneVoice
from microturn.runtime.testing.scripted_model import UserLine as UserLine
from microturn.runtime.testing.situations import Said as Said
from microturn.runtime.testing.situations import Situation as Situation
from microturn.runtime.testing.situations import play as play
from microturn.runtime.testing.stage import Stage as Stage

__all__ = (
    "WORD_MS",
    "Answer",
    "Faults",
    "FaultyLink",
    "LinkCounters",
    "Listener",
    "Result",
    "Said",
    "ScriptedBackground",
    "ScriptedModel",
    "Situation",
    "Stage",
    "ToneVoice",
    "UserLine",
    "VirtualClock",
    "play",
)
