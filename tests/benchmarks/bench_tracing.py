"""What telemetry costs the beat: ticks and processor time of many sessions with it and without, in turns.

    python tests/benchmarks/bench_tracing.py [--sessions 50] [--seconds 40] [--rounds 3]

Each round runs the same sessions once without telemetry and once with all of it (spans to files and to a collector
over OTLP, metrics, logs, the watchdog), in processes of their own, first the one and then the other. The collector is
this process. The figures of a side are the medians over its rounds; `tick` is how long after it was due a tick was
done, which other work on the machine shifts, `loop_cpu` what the loop's thread computed for it. Prints a table, and as the last line all figures
as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias

PROGRAM = Path(__file__).with_name("tracing_runtime.py")
Figures: TypeAlias = dict[str, float]


class Sink(BaseHTTPRequestHandler):
    """Takes whatever is sent."""

    protocol_version = "HTTP/1.1"
    received_bytes = 0

    def do_POST(self) -> None:
        """Read it, and say that it is well."""
        Sink.received_bytes += len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def run_once(sessions: int, seconds: float, environment: dict[str, str]) -> Figures:
    """Run the sessions once; tick times in milliseconds, `cpu` in percent of a core."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(sessions), str(seconds)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    return {
        "tick_p50_ms": statistics.median(said["done_ms"]),
        "tick_p99_ms": percentile_99(said["done_ms"]),
        "loop_cpu_p50_ms": statistics.median(said["loop_ms"]),
        "loop_cpu_p99_ms": percentile_99(said["loop_ms"]),
        "cpu_percent": said["cpu_share"] * 100,
    }


def percentile_99(values: list[float]) -> float:
    """The value that one in a hundred is above."""
    return sorted(values)[min(len(values) - 1, round(len(values) * 0.99))]


def medians(rounds: list[Figures]) -> Figures:
    """The median of each figure."""
    return {name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "MICROTURN_"))}
    sides: dict[str, list[Figures]] = {"off": [], "on": []}
    with tempfile.TemporaryDirectory() as state:
        bare["XDG_STATE_HOME"] = state
        traced = {**bare, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        for _ in range(options.rounds):
            for side, environment in (("off", bare), ("on", traced)):
                sides[side].append(run_once(options.sessions, options.seconds, environment))
    off, on = medians(sides["off"]), medians(sides["on"])
    more = {name: round(on[name] - off[name], 3) for name in off}
    print(f"{'':18}{'without':>12}{'with':>12}{'more':>12}")
    for name in off:
        print(f"{name:18}{off[name]:12.3f}{on[name]:12.3f}{more[name]:12.3f}")
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    figures = {"off": off, "on": on, "more": more, "sent_bytes": Sink.received_bytes}
    print(json.dumps({"sessions": options.sessions, "rounds": options.rounds, **figures, "machine": machine}))


if __name__ == "__main__":
    main()
