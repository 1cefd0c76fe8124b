"""The public face: an assistant is an interaction model, tools, and a background that works on what is handed over."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import anyio
import anyio.to_thread

from microturn.interaction_model import InteractionModel
from microturn.protocols import UserError
from microturn.runtime.bus.embedded_server import EmbeddedServer
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.conversation import Conversation, Setting
from microturn.runtime.events import Observer
from microturn.runtime.hub import Hub, open_hub, settings_of
from microturn.runtime.interaction_models import load_speech
from microturn.runtime.summary import Summary
from microturn.runtime.weave_policy import WeavePolicy
from microturn.runtime.worker_service import OpensEngine, open_ready_engine, worker_thread
from microturn.tools import AnyTool, ToolRegistry


@asynccontextmanager
async def bus_settings(
    redis_url: str | None, *, tenant: str = "default", shards: int = 1
) -> AsyncIterator[BusSettings]:
    """Settings for the server at `redis_url`, or for a built-in one that runs until the end of the block.

    Raises:
        UserError: it is no address of a Redis server, the tenant cannot be part of a key, or the state folder cannot
            be written.
        EmbeddedServerError: the built-in server could not be had.
    """
    if redis_url is not None:
        yield settings_of(redis_url, tenant=tenant, shards=shards)
        return
    server = EmbeddedServer()
    try:
        await anyio.to_thread.run_sync(server.start)
    except OSError as error:
        raise UserError(
            f"cannot keep the built-in server's data in {str(server.data_dir)!r}: {error.strerror}; make that folder "
            "writable, or set XDG_STATE_HOME to another place"
        ) from None
    try:
        yield settings_of(server.url, tenant=tenant, shards=shards)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(server.stop)


class Assistant:
    """A voice assistant with tools of one's own.

    Tools that are installed as plugins (entry point group `microturn.tools`) are there too, the built-in ones among
    them. The reasoning model is the one that the environment names (`MICROTURN_MODEL_URL`, `MICROTURN_MODEL`,
    `MICROTURN_MODEL_KEY`), else a local one.
    """

    def __init__(
        self,
        tools: Iterable[AnyTool] = (),
        *,
        redis_url: str | None = None,
        policy: WeavePolicy | None = None,
        load_model: Callable[[], InteractionModel] = load_speech,
        open_engine: OpensEngine = open_ready_engine,
    ) -> None:
        """Nothing is loaded or started before a conversation.

        Args:
            tools: functions made into tools by `@tool`.
            redis_url: a Redis 7 or Valkey 7.2 server for the delegations; None starts a built-in one. Tasks of an
                assistant with tools of its own are only taken by workers that have the same tools.
            policy: when results are said; `NaturalPause` unless given.
            load_model: makes the interaction model; `choose_interaction_model("native").load` makes the native one.
            open_engine: opens what reasons in the background.
        """
        self.tools = ToolRegistry.from_entry_points()
        self._own = tuple(tools)
        for tool in self._own:
            self.tools.add(tool)
        self._redis_url = redis_url
        self._policy = policy
        self._load_model = load_model
        self._open_engine = open_engine

    def talk(
        self,
        input: str | Path | None = None,
        output: str | Path | None = None,
        *,
        timeline: str | Path | None = None,
        fast: bool = False,
        typed: TextIO | None = None,
        session_id: str | None = None,
        observers: Sequence[Observer] = (),
    ) -> Summary:
        """Hold a conversation and return its figures. Blocks until the recording is over and all is said.

        Args:
            input: a recording of the person's side (wav, flac, ogg, mp3); None listens to the microphone until
                Ctrl-C.
            output: where to record both sides in stereo, the person on the left.
            timeline: where to draw what happened, as a PNG.
            fast: on a virtual clock, as quick as the machine; for recordings and typed lines.
            typed: lines to read instead of hearing, such as `sys.stdin`; their end is the end of the conversation.
            session_id: names the session; one whose process died is taken over, and goes on with what its user has
                not heard yet. None begins a new one.
            observers: called with every `SessionEvent`.

        Raises:
            UserError: a file cannot be read or written.
            UnavailableError: a weight, a package, a device or a server is missing; the text says how to get it.
        """
        setting = Setting(_path(input), _path(output), _path(timeline), fast, typed, session_id)
        setting.check()
        conversation = Conversation(setting, observers, policy=self._policy)
        try:
            anyio.run(self._talk, conversation)
        except KeyboardInterrupt:
            if input is not None:
                raise
        return conversation.summary

    async def _talk(self, conversation: Conversation) -> None:
        model = await anyio.to_thread.run_sync(self._load_model)
        try:
            async with self.background() as hub:
                await conversation.hold(model, hub)
        finally:
            model.close()

    @asynccontextmanager
    async def background(self) -> AsyncIterator[Hub]:
        """Start the background of this assistant, a server where none is given and a worker with its tools.

        Raises:
            MicroturnError: the server or what reasons could not be had.
        """
        async with AsyncExitStack() as stack:
            settings = await stack.enter_async_context(bus_settings(self._redis_url))
            if self._own:
                settings = replace(settings, tenant=_tenant_of(self._own))
            await stack.enter_async_context(worker_thread(settings, self._open_engine, self.tools))
            hub = await stack.enter_async_context(open_hub(settings))
            await hub.until_worker()
            yield hub


def _tenant_of(own: Sequence[AnyTool]) -> str:
    """The part of a server for workers with these tools of one's own; others would not know them."""
    specs = sorted(tool.spec.model_dump_json() for tool in own)
    return f"tools-{hashlib.sha256(chr(10).join(specs).encode()).hexdigest()[:16]}"


def _path(path: str | Path | None) -> Path | None:
    return Path(path) if path is not None else None
