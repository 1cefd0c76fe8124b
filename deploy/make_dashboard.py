"""Writes the Grafana dashboard from the list of panels below: `python deploy/make_dashboard.py`.

`tests/deploy` compares the file with this, and checks that every metric in it is one that the product exports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DASHBOARD = Path(__file__).parent / "grafana" / "dashboards" / "microturn.json"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 8, 7
"""Of a panel, in units of Grafana's grid, which is 24 wide."""
RUNTIMES = '{instance=~"$instance"}'


@dataclass(frozen=True)
class Panel:
    """One panel: what it tells, and how that is asked for."""

    title: str
    description: str
    unit: str
    queries: Sequence[tuple[str, str]]
    """PromQL, and the legend of what it gives."""
    limit: float | None = None
    """Beyond it the line is red."""


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


def quantile(share: float, metric: str, *by: str) -> str:
    """A quantile of a histogram over the chosen processes."""
    kept = ", ".join(("le", *by))
    return f"histogram_quantile({share}, sum by ({kept}) (rate({metric}_bucket{RUNTIMES}[$__rate_interval])))"


def per_second(metric: str, *by: str) -> str:
    """How often a counter grows, over the chosen processes."""
    total = f"sum by ({', '.join(by)})" if by else "sum"
    return f"{total} (rate({metric}{RUNTIMES}[$__rate_interval]))"


def failures(metric: str, by: str) -> str:
    """How often what a histogram measures ends in an error that is not a cancel."""
    chosen = '{instance=~"$instance", error_type!~"|CancelledError"}'
    return f"sum by ({by}, error_type) (rate({metric}_count{chosen}[$__rate_interval]))"


def p50_and_p95(metric: str) -> list[tuple[str, str]]:
    """The middle and the slow end of a histogram."""
    return [(quantile(0.5, metric), "p50"), (quantile(0.95, metric), "p95")]


ROWS = (
    Row(
        "The beat",
        (
            Panel(
                "Tick, p99",
                "How long the slowest 1 % of steps take, model included. Beyond 0.2 s the next one is late.",
                "s",
                [(quantile(0.99, "microturn_tick_duration_seconds", "instance"), "{{instance}}")],
                limit=0.2,
            ),
            Panel(
                "Missed micro-turns",
                "Micro-turns without a step of their own, by what held them up. Their sound is made up for, late.",
                "cps",
                [(per_second("microturn_tick_missed_total", "reason"), "{{reason}}")],
            ),
            Panel(
                "Sessions",
                "Conversations that run, counted by their ticks: five a second each.",
                "short",
                [
                    (
                        f"sum by (instance) (rate(microturn_tick_duration_seconds_count{RUNTIMES}[$__rate_interval])) / 5",
                        "{{instance}}",
                    )
                ],
            ),
            Panel(
                "The runtime's own part of a tick, p99",
                "What the runtime itself takes for a session in a step, model excluded.",
                "s",
                [(quantile(0.99, "microturn_tick_runtime_seconds", "instance"), "{{instance}}")],
                limit=0.005,
            ),
            Panel(
                "Lateness of ticks, p99",
                "How long after it was due a step began.",
                "s",
                [(quantile(0.99, "microturn_tick_lateness_seconds", "instance"), "{{instance}}")],
                limit=0.2,
            ),
            Panel(
                "Event loop blocked",
                "How often the event loop stood still for half a micro-turn. The log names the function.",
                "cps",
                [(per_second("microturn_tick_blocked_total", "instance"), "{{instance}}")],
            ),
        ),
    ),
    Row(
        "Delegations",
        (
            Panel(
                "Handed over and ended",
                "Delegations by how they ended; the line `handed over` should be their sum.",
                "cps",
                [
                    (per_second("microturn_delegation_handed_over_total"), "handed over"),
                    (
                        per_second("microturn_delegation_ended_total", "microturn_delegation_state"),
                        "{{microturn_delegation_state}}",
                    ),
                ],
            ),
            Panel(
                "To the first spoken word",
                "From the hand-over to the first word of a result that the user hears.",
                "s",
                p50_and_p95("microturn_delegation_first_word_seconds"),
                limit=8,
            ),
            Panel(
                "To the end",
                "From the hand-over to the last event of a delegation.",
                "s",
                p50_and_p95("microturn_delegation_duration_seconds"),
            ),
            Panel(
                "Wait for a pause",
                "From the arrival of a piece of a result to its weaving into speech.",
                "s",
                p50_and_p95("microturn_weave_wait_seconds"),
            ),
            Panel(
                "What became of pieces",
                "Pieces of results by their receipts: heard to the end, interrupted, or never said.",
                "cps",
                [
                    (
                        per_second("microturn_weave_receipts_total", "microturn_weave_outcome"),
                        "{{microturn_weave_outcome}}",
                    )
                ],
            ),
            Panel(
                "The way to the background",
                "How often sessions found that nobody works, or that the server cannot be reached.",
                "cps",
                [
                    (
                        per_second("microturn_background_changes_total", "microturn_background_state"),
                        "{{microturn_background_state}}",
                    )
                ],
            ),
        ),
    ),
    Row(
        "Queue and workers",
        (
            Panel(
                "Waiting",
                "Tasks that no worker has taken. Every runtime reports the same, hence the largest.",
                "short",
                [("max by (microturn_queue_lane) (microturn_queue_lag)", "{{microturn_queue_lane}}")],
                limit=20,
            ),
            Panel(
                "Longest wait",
                "How long the oldest task that no worker has taken has waited.",
                "s",
                [
                    (
                        "max by (microturn_queue_lane) (microturn_queue_oldest_wait_seconds)",
                        "{{microturn_queue_lane}}",
                    )
                ],
                limit=10,
            ),
            Panel(
                "Workers and sessions",
                "Workers that live and sessions that run, on all machines, as the bus knows them.",
                "short",
                [("max (microturn_bus_workers)", "workers"), ("max (microturn_bus_sessions)", "sessions")],
            ),
            Panel(
                "Running",
                "Tasks that workers have now.",
                "short",
                [(f"sum by (instance) (microturn_worker_tasks{RUNTIMES})", "{{instance}}")],
            ),
            Panel(
                "Dead letters",
                "Tasks that were given up. `microturn dead list` names them.",
                "short",
                [("max (microturn_queue_dead_letters)", "given up")],
                limit=1,
            ),
            Panel(
                "Attempts",
                "Attempts by how they ended in their worker.",
                "cps",
                [
                    (
                        per_second("microturn_worker_attempts_total", "microturn_delegation_state"),
                        "{{microturn_delegation_state}}",
                    )
                ],
            ),
            Panel(
                "Runs of agents",
                "How long an agent works on a task.",
                "s",
                p50_and_p95("gen_ai_invoke_agent_duration_seconds"),
            ),
            Panel(
                "Lost telemetry",
                "Batches that no collector took.",
                "cps",
                [
                    (
                        per_second("microturn_telemetry_failed_exports_total", "microturn_telemetry_signal"),
                        "{{microturn_telemetry_signal}}",
                    )
                ],
            ),
        ),
    ),
    Row(
        "Models and tools",
        (
            Panel(
                "Requests to models, p95",
                "How long the slowest 5 % of requests take, until the answer is whole.",
                "s",
                [
                    (
                        quantile(0.95, "gen_ai_client_operation_duration_seconds", "gen_ai_request_model"),
                        "{{gen_ai_request_model}}",
                    )
                ],
            ),
            Panel(
                "Models: first piece of an answer, p95",
                "From a request to the first piece of its answer.",
                "s",
                [
                    (
                        quantile(
                            0.95,
                            "gen_ai_client_operation_time_to_first_chunk_seconds",
                            "gen_ai_request_model",
                        ),
                        "{{gen_ai_request_model}}",
                    )
                ],
            ),
            Panel(
                "Tokens",
                "Tokens that models read and write.",
                "cps",
                [
                    (
                        per_second(
                            "gen_ai_client_token_usage_sum", "gen_ai_request_model", "gen_ai_token_type"
                        ),
                        "{{gen_ai_request_model}} {{gen_ai_token_type}}",
                    )
                ],
            ),
            Panel(
                "Calls of tools, p95",
                "How long the slowest 5 % of calls take.",
                "s",
                [
                    (
                        quantile(0.95, "gen_ai_execute_tool_duration_seconds", "gen_ai_tool_name"),
                        "{{gen_ai_tool_name}}",
                    )
                ],
            ),
            Panel(
                "Calls of tools that fail",
                "Calls that ended in an error, each by its kind; one that was cancelled is no failure.",
                "cps",
                [
                    (
                        failures("gen_ai_execute_tool_duration_seconds", "gen_ai_tool_name"),
                        "{{gen_ai_tool_name}}: {{error_type}}",
                    )
                ],
            ),
            Panel(
                "Requests to models that fail",
                "Requests that ended in an error, each by its kind; one that was cancelled is no failure.",
                "cps",
                [
                    (
                        failures("gen_ai_client_operation_duration_seconds", "gen_ai_request_model"),
                        "{{gen_ai_request_model}}: {{error_type}}",
                    )
                ],
            ),
        ),
    ),
)


def rendered() -> str:
    """The dashboard as JSON, in the model of Grafana 9 and later."""
    return (
        json.dumps(
            {
                "title": "microturn",
                "uid": "microturn",
                "description": "Sessions, the beat, delegations, the queue, models and tools of microturn.",
                "tags": ["microturn", "voice"],
                "schemaVersion": 38,
                "editable": True,
                "graphTooltip": 1,
                "refresh": "10s",
                "time": {"from": "now-1h", "to": "now"},
                "timezone": "utc",
                "templating": {"list": list(_variables())},
                "annotations": {"list": []},
                "panels": list(_panels()),
            },
            indent=1,
        )
        + "\n"
    )


def _variables() -> Iterator[dict[str, object]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    yield {
        "name": "instance",
        "label": "Process",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {
            "query": 'label_values({__name__=~"microturn_tick_duration_seconds_count|microturn_worker_tasks"}, instance)',
            "refId": "instance",
        },
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _panels() -> Iterator[dict[str, object]]:
    number, y = 1, 0
    for row in ROWS:
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            "panels": [],
        }
        number, y = number + 1, y + 1
        for place, panel in enumerate(row.panels):
            x, line = place % 3 * WIDTH, y + place // 3 * HEIGHT
            yield _panel(panel, number, {"x": x, "y": line, "w": WIDTH, "h": HEIGHT})
            number += 1
        y += (len(row.panels) + 2) // 3 * HEIGHT


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, object]:
    steps: list[dict[str, object]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {
                    "lineWidth": 1,
                    "fillOpacity": 10,
                    "thresholdsStyle": {"mode": "off" if panel.limit is None else "line"},
                },
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": query,
                "legendFormat": legend,
                "exemplar": "_bucket" in query,
            }
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    DASHBOARD.parent.mkdir(parents=True, exist_ok=True)
    DASHBOARD.write_text(rendered(), "utf-8")
