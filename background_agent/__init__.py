"""The background agent: takes delegated tasks from a bus, reasons with a model, runs tools, speaks as it goes.

Knows nothing of the beat, of audio, and of how the bus works inside. The in-memory bus for tests is in
`microturn.background_agent.testing`.
"""

from microturn.background_agent._errors import LocalModelError as LocalModelError
from microturn.background_agent._errors import ModelBrokeOffError as ModelBrokeOffError
from microturn.background_agent._errors import ModelDownError as ModelDownError
from microturn.background_agent._errors import ModelError as ModelError
from microturn.background_agent._errors import ModelRequestError as ModelRequestError
from microturn.background_agent._errors import ModelSlowError as ModelSlowError
from microturn.background_agent.agent_roster import AgentRoster as AgentRoster
from microturn.background_agent.chat_client import ChatClient as ChatClient
from microturn.background_agent.chat_client import ChatLimits as ChatLimits
from microturn.background_agent.engine import AgentEngine as AgentEngine
from microturn.background_agent.engine import Control as Control
from microturn.background_agent.engine import Emit as Emit
from microturn.background_agent.engine_choice import LARGE_MODEL as LARGE_MODEL
from microturn.background_agent.engine_choice import LocalFile as LocalFile
from microturn.background_agent.engine_choice import ModelChoice as ModelChoice
from microturn.background_agent.engine_choice import RemoteModel as RemoteModel
from microturn.background_agent.engine_choice import choose_agents as choose_agents
from microturn.background_agent.engine_choice import choose_model as choose_model
from microturn.background_agent.engine_choice import engine_from_environment as engine_from_environment
from microturn.background_agent.limits import RunLimits as RunLimits
from microturn.background_agent.limits import TokenPrices as TokenPrices
from microturn.background_agent.loop_engine import LoopEngine as LoopEngine
from microturn.background_agent.parent_watch import die_with_parent as die_with_parent
from microturn.background_agent.parent_watch import end_child as end_child
from microturn.background_agent.profile import LOCAL as LOCAL
from microturn.background_agent.profile import REMOTE as REMOTE
from microturn.background_agent.profile import REMOTE_JSON as REMOTE_JSON
from microturn.background_agent.profile import ModelProfile as ModelProfile
from microturn.background_agent.reflex_engine import ReflexEngine as ReflexEngine
from microturn.background_agent.worker import DRAIN_SIGNALS as DRAIN_SIGNALS
from microturn.background_agent.worker import Worker as Worker
from microturn.background_agent.worker import WorkerStatistics as WorkerStatistics
from microturn.background_agent.worker_bus import BeatResult as BeatResult
from microturn.background_agent.worker_bus import Begun as Begun
from microturn.background_agent.worker_bus import EmitResult as EmitResult
from microturn.background_agent.worker_bus import TaskEntry as TaskEntry
from microturn.background_agent.worker_bus import WorkerBus as WorkerBus

__all__ = (
    "DRAIN_SIGNALS",
    "LARGE_MODEL",
    "LOCAL",
    "REMOTE",
    "REMOTE_JSON",
    "AgentEngine",
    "AgentRoster",
    "BeatResult",
    "Begun",
    "ChatClient",
    "ChatLimits",
    "Control",
    "Emit",
    "EmitResult",
    "LocalFile",
    "LocalModelError",
    "LoopEngine",
    "ModelBrokeOffError",
    "ModelChoice",
    "ModelDownError",
    "ModelError",
    "ModelProfile",
    "ModelRequestError",
    "ModelSlowError",
    "ReflexEngine",
    "RemoteModel",
    "RunLimits",
    "TaskEntry",
    "TokenPrices",
    "Worker",
    "WorkerBus",
    "WorkerStatistics",
    "choose_agents",
    "choose_model",
    "die_with_parent",
    "end_child",
    "engine_from_environment",
)
