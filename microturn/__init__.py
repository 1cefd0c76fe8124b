"""microturn: an open runtime for voice assistants that never stop listening.

    from microturn import Assistant, tool

The public names are loaded when they are first used, so that importing one layer (`microturn.protocols`, say) loads
nothing of the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from microturn._version import __version__ as __version__

if TYPE_CHECKING:
    from microturn.interaction_model import InteractionModel as InteractionModel
    from microturn.protocols import MicroturnError as MicroturnError
    from microturn.protocols import Speech as Speech
    from microturn.runtime.assistant import Assistant as Assistant
    from microturn.tools import Phrase as Phrase
    from microturn.tools import Spoken as Spoken
    from microturn.tools import ToolContext as ToolContext
    from microturn.tools import tool as tool

_HOME = {
    "Assistant": "microturn.runtime.assistant",
    "InteractionModel": "microturn.interaction_model",
    "MicroturnError": "microturn.protocols",
    "Phrase": "microturn.tools",
    "Speech": "microturn.protocols",
    "Spoken": "microturn.tools",
    "ToolContext": "microturn.tools",
    "tool": "microturn.tools",
}

__all__ = (
    "Assistant",
    "InteractionModel",
    "MicroturnError",
    "Phrase",
    "Speech",
    "Spoken",
    "ToolContext",
    "__version__",
    "tool",
)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
