"""Servers in processes of their own, listening on loopback, for tests of clusters and failovers. They end with us."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from microturn.runtime.bus import embedded_server

PATIENCE_S = 10.0
SLOTS = 16384
"""Hash slots of a cluster."""


class ServerProcess:
    """One server program with options; its data stays in its folder when it is killed and started again."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = port
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers. It ends with the thread that calls this."""
        program = [str(embedded_server.find_binary()), *self._options, "--port", str(self.port)]
        common = ["--bind", "127.0.0.1", "--dir", str(self.folder), "--logfile", str(self.folder / "log")]
        launcher = [sys.executable, "-I", "-S", "-c", embedded_server._LAUNCH_ON_LINUX, str(os.getpid())]
        self._process = subprocess.Popen([*launcher, *program, *common])
        wait_for(lambda: self.ask("PING") == "PONG", f"no answer; see {self.folder / 'log'}")

    def ask(self, *words: str | int) -> str:
        """The answer to one command, as far as it is one line or one text; empty if there is none."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(" ".join(map(str, words)).encode() + b"\r\n")
            return connection.recv(65536).decode().strip().lstrip("+")
        return ""

    def kill(self) -> None:
        """Kill it; nothing is written any more."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Stop it without a word to anyone."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, below those that the kernel gives to clients: a client of a server that is
    away might else get the server's own port, and would talk to itself.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def wait_for(is_so: object, failure: str) -> None:
    """Wait until a function returns something true."""
    assert callable(is_so)
    give_up_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up_s, failure
        time.sleep(0.02)


@contextmanager
def cluster_of(folder: Path, count: int) -> Iterator[list[ServerProcess]]:
    """A cluster of primaries that share the slots, and go on serving theirs if another is away."""
    ports = free_ports(2 * count)
    nodes = [
        _node(folder / f"node{number}", port, bus_port)
        for number, (port, bus_port) in enumerate(zip(ports[:count], ports[count:], strict=True))
    ]
    with ExitStack() as ends:
        for number, node in enumerate(nodes):
            ends.callback(node.kill)
            node.start()
            first, last = SLOTS * number // count, SLOTS * (number + 1) // count - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, ports[count + number])
        for node in nodes:
            wait_for(lambda node=node: is_whole(node, count), "the nodes have not found together")
        yield nodes


@contextmanager
def replica_of(primary: ServerProcess, folder: Path) -> Iterator[ServerProcess]:
    """A further node of a cluster, ready to take a primary's place."""
    port, bus_port = free_ports(2)
    node = _node(folder, port, bus_port)
    with ExitStack() as ends:
        ends.callback(node.kill)
        node.start()
        primary.ask("CLUSTER", "MEET", "127.0.0.1", port, bus_port)
        name = primary.ask("CLUSTER", "MYID").split()[-1]
        wait_for(lambda: "OK" in node.ask("CLUSTER", "REPLICATE", name), "the node knows no primary")
        wait_for(lambda: "master_link_status:up" in node.ask("INFO", "replication"), "no replica follows")
        yield node


def _node(folder: Path, port: int, bus_port: int) -> ServerProcess:
    return ServerProcess(
        folder,
        port,
        *("--cluster-enabled", "yes", "--cluster-port", str(bus_port), "--cluster-node-timeout", "1000"),
        *("--cluster-require-full-coverage", "no", "--appendonly", "yes", "--save", ""),
    )


def is_whole(node: ServerProcess, count: int) -> bool:
    """Whether a node knows of all the others, and of all slots."""
    info = node.ask("CLUSTER", "INFO")
    return all(
        line in info for line in ("cluster_state:ok", "cluster_slots_ok:16384", f"cluster_size:{count}")
    )


@contextmanager
def watched_pair(folder: Path, service: str) -> Iterator[tuple[ServerProcess, ServerProcess, ServerProcess]]:
    """A primary, its replica, and a sentinel that promotes the replica half a second after the primary is gone."""
    ports = free_ports(3)
    persistent = ("--appendonly", "yes", "--save", "")
    primary = ServerProcess(folder / "primary", ports[0], *persistent)
    replica = ServerProcess(
        folder / "replica", ports[1], *persistent, "--replicaof", "127.0.0.1", str(ports[0])
    )
    config = folder / "sentinel.conf"  # a sentinel writes into it what it finds out
    config.write_text(
        f"sentinel monitor {service} 127.0.0.1 {ports[0]} 1\n"
        f"sentinel down-after-milliseconds {service} 500\n"
        f"sentinel failover-timeout {service} 3000\n"
    )
    sentinel = ServerProcess(folder / "sentinel", ports[2], str(config), "--sentinel")
    with ExitStack() as ends:
        for each in (primary, replica, sentinel):
            ends.callback(each.kill)
            each.start()
        wait_for(lambda: "master_link_status:up" in replica.ask("INFO", "replication"), "no replica follows")
        wait_for(
            lambda: "num-slaves\r\n$1\r\n1" in sentinel.ask("SENTINEL", "MASTER", service),
            "the sentinel has not found the replica",
        )
        yield primary, replica, sentinel
