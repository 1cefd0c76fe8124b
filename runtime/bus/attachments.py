"""Pictures and other large bytes that go beside the packages: kept on the server for a while, named by what they are.

They have connections of their own, so that no hand-over waits behind one. Nothing is owed here: what cannot be stored
in time is left out, and whoever asks for it is told that it is gone. Knows nothing of what the bytes are.
"""

from __future__ import annotations

import hashlib
import logging
import re

import anyio
from redis.exceptions import RedisError

from microturn.protocols import Reference
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.link import Link
from microturn.runtime.bus.patience import Backoff, until_answered
from microturn.runtime.bus.server_errors import TRANSIENT
from microturn.tools import ReferenceAlteredError, ReferenceGoneError

ATTACHMENT_LIMIT_BYTES = 1024 * 1024
"""Largest bytes that are kept: a picture of a camera as JPEG has some 50 to 300 kB. Our choice."""
WAITING_LIMIT = 8
"""Attachments that wait to be sent. One more takes the place of the oldest, which nobody gets. Our choice."""
ON_ITS_WAY_S = 1.0
"""How long one that is not there is waited for: it may have been overtaken by the task that names it. Our choice."""
_LOOK_EVERY_S = 0.05
_SHA256 = re.compile(r"[0-9a-f]{64}")

_log = logging.getLogger(__name__)


class AttachmentSender:
    """Stores one runtime's attachments. `run` is to be started in the owner's task group."""

    def __init__(self, link: Link, keys: Keys, *, ttl_s: float) -> None:
        """`link` takes bytes as they are; `ttl_s` is how long an attachment is kept once it is stored."""
        self._link = link
        self._keys = keys
        self._ttl_s = ttl_s
        self._waiting: dict[str, bytes] = {}
        """By key, oldest first."""
        self._has_some = anyio.Event()
        self._settled = anyio.Event()

    def keep_nowait(self, session_id: str, data: bytes, media_type: str, time_ms: int) -> Reference | None:
        """Have bytes stored, and return what names them; None where they are empty or too large.

        Never waits; hashing takes about a millisecond for the largest. Where too much waits already, the oldest that
        waits is left out.
        """
        if not 0 < len(data) <= ATTACHMENT_LIMIT_BYTES:
            _log.warning(
                "An attachment of %d bytes is not kept: the limit is %d; make it smaller.",
                *(len(data), ATTACHMENT_LIMIT_BYTES),
            )
            return None
        sha256 = hashlib.sha256(data).hexdigest()
        key = self._keys.attachment(self._keys.shard_of(session_id), sha256)
        self._waiting.pop(key, None)
        self._waiting[key] = data
        if len(self._waiting) > WAITING_LIMIT:
            del self._waiting[next(iter(self._waiting))]
            _log.warning(
                "The oldest attachment that waits is left out: they come faster than the bus takes them."
            )
        self._has_some.set()
        return Reference(key=key, sha256=sha256, media_type=media_type, time_ms=time_ms, ttl_s=self._ttl_s)

    async def all_sent(self) -> None:
        """Wait until nothing waits."""
        while self._waiting:
            await self._settled.wait()

    async def run(self) -> None:
        """Store what waits until cancelled, through outages."""
        backoff = Backoff()
        while True:
            while not self._waiting:
                self._has_some = anyio.Event()
                await self._has_some.wait()
            key, data = next(iter(self._waiting.items()))
            try:
                await self._link.send("SET", key, data, "PX", round(self._ttl_s * 1000), key=key)
            except TRANSIENT:
                await anyio.sleep(backoff.pause_s())
                continue
            except RedisError as error:
                _log.warning("An attachment is left out: the server refused it (%s).", type(error).__name__)
            backoff.reset()
            self._settle(key, data)

    def _settle(self, key: str, data: bytes) -> None:
        """Forget what was sent, unless the same has come again meanwhile and is to live longer."""
        if self._waiting.get(key) is data:
            del self._waiting[key]
        settled, self._settled = self._settled, anyio.Event()
        settled.set()


class AttachmentReader:
    """Loads attachments for one worker."""

    def __init__(self, link: Link, keys: Keys) -> None:
        """`link` gives bytes as they are."""
        self._link = link
        self._keys = keys

    async def load(self, shard: int, reference: Reference) -> bytes:
        """Return the bytes that a task of a shard refers to. Waits through an outage.

        Only attachments can be read, and none of another shard: a reference chooses no key of its own.

        Raises:
            ReferenceGoneError: they are not there, and did not come within `ON_ITS_WAY_S`.
            ReferenceAlteredError: they are others than the reference says, or it is not one of an attachment.
            BusReplyError: the server refused for a reason that repeating cannot mend.
        """
        if not _SHA256.fullmatch(reference.sha256):
            raise ReferenceAlteredError(reference)
        key = self._keys.attachment(shard, reference.sha256)
        if reference.key != key:
            raise ReferenceAlteredError(reference)
        data = await self._get(key)
        if data is None:
            raise ReferenceGoneError(reference)
        if hashlib.sha256(data).hexdigest() != reference.sha256:
            raise ReferenceAlteredError(reference)
        return data

    async def _get(self, key: str) -> bytes | None:
        """The bytes under a key, as soon as they are there; None where they do not come."""
        for _ in range(round(ON_ITS_WAY_S / _LOOK_EVERY_S)):
            data = await until_answered(lambda: self._link.send("GET", key, key=key), "load an attachment")
            if isinstance(data, bytes):
                return data
            await anyio.sleep(_LOOK_EVERY_S)
        return None
