"""Tools: how a function becomes one, how they are found, and how they are called within limits.

The built-in ones are in `microturn.tools.builtin`. Knows nothing of models, agents, queues or sound.
"""

from microturn.tools._errors import ReferenceAlteredError as ReferenceAlteredError
from microturn.tools._errors import ReferenceGoneError as ReferenceGoneError
from microturn.tools._errors import ToolError as ToolError
from microturn.tools._errors import ToolFailed as ToolFailed
from microturn.tools._errors import ToolRetry as ToolRetry
from microturn.tools._errors import UnknownToolError as UnknownToolError
from microturn.tools.context import Ask as Ask
from microturn.tools.context import Load as Load
from microturn.tools.context import ToolContext as ToolContext
from microturn.tools.context import nothing_kept as nothing_kept
from microturn.tools.context import standalone_package as standalone_package
from microturn.tools.decorator import AnyTool as AnyTool
from microturn.tools.decorator import Tool as Tool
from microturn.tools.decorator import tool as tool
from microturn.tools.phrases import Match as Match
from microturn.tools.phrases import Phrase as Phrase
from microturn.tools.plugins import ENTRY_POINT_GROUP as ENTRY_POINT_GROUP
from microturn.tools.registry import ToolRegistry as ToolRegistry
from microturn.tools.result import Spoken as Spoken
from microturn.tools.result import ToolResult as ToolResult
from microturn.tools.text import Capped as Capped
from microturn.tools.text import cap as cap
from microturn.tools.text import clean as clean

__all__ = (
    "ENTRY_POINT_GROUP",
    "AnyTool",
    "Ask",
    "Capped",
    "Load",
    "Match",
    "Phrase",
    "ReferenceAlteredError",
    "ReferenceGoneError",
    "Spoken",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolFailed",
    "ToolRegistry",
    "ToolResult",
    "ToolRetry",
    "UnknownToolError",
    "cap",
    "clean",
    "nothing_kept",
    "standalone_package",
    "tool",
)
