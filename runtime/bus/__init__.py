"""The delegation bus: tasks go to background workers over Redis streams, and their results come back in order.

Delivers at least once underneath and exactly once in effect, through the death of any process, the server's
included. Knows nothing of speech, models and tools. See `docs/delegation-bus.md`.
"""

from microturn.runtime.bus._errors import BusAddressError as BusAddressError
from microturn.runtime.bus._errors import BusNameError as BusNameError
from microturn.runtime.bus._errors import BusReplyError as BusReplyError
from microturn.runtime.bus._errors import BusUnreachableError as BusUnreachableError
from microturn.runtime.bus._errors import DataDirLockedError as DataDirLockedError
from microturn.runtime.bus._errors import EmbeddedServerError as EmbeddedServerError
from microturn.runtime.bus._errors import PackageTooLargeError as PackageTooLargeError
from microturn.runtime.bus._errors import QueueFullError as QueueFullError
from microturn.runtime.bus._errors import RuntimeIdTakenError as RuntimeIdTakenError
from microturn.runtime.bus._errors import ServerBinaryMissingError as ServerBinaryMissingError
from microturn.runtime.bus._errors import ServerDiedError as ServerDiedError
from microturn.runtime.bus._errors import SessionTakenError as SessionTakenError
from microturn.runtime.bus._errors import UnfitServerError as UnfitServerError
from microturn.runtime.bus._errors import UnfitSettingsError as UnfitSettingsError
from microturn.runtime.bus._errors import UnknownSessionError as UnknownSessionError
from microturn.runtime.bus.access import access_rules as access_rules
from microturn.runtime.bus.embedded_server import EmbeddedServer as EmbeddedServer
from microturn.runtime.bus.health import Health as Health
from microturn.runtime.bus.runtime_port import DelegationPort as DelegationPort
from microturn.runtime.bus.runtime_port import open_delegation_port as open_delegation_port
from microturn.runtime.bus.settings import BusSettings as BusSettings
from microturn.runtime.bus.tracks import BusEvent as BusEvent
from microturn.runtime.bus.tracks import Lagged as Lagged
from microturn.runtime.bus.tracks import SessionMoved as SessionMoved
from microturn.runtime.bus.tracks import UpdateRefused as UpdateRefused
from microturn.runtime.bus.worker_port import WorkerPort as WorkerPort
from microturn.runtime.bus.worker_port import open_worker_port as open_worker_port

__all__ = (
    "BusAddressError",
    "BusEvent",
    "BusNameError",
    "BusReplyError",
    "BusSettings",
    "BusUnreachableError",
    "DataDirLockedError",
    "DelegationPort",
    "EmbeddedServer",
    "EmbeddedServerError",
    "Health",
    "Lagged",
    "PackageTooLargeError",
    "QueueFullError",
    "RuntimeIdTakenError",
    "ServerBinaryMissingError",
    "ServerDiedError",
    "SessionMoved",
    "SessionTakenError",
    "UnfitServerError",
    "UnfitSettingsError",
    "UnknownSessionError",
    "UpdateRefused",
    "WorkerPort",
    "access_rules",
    "open_delegation_port",
    "open_worker_port",
)
