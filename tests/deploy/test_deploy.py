"""What is shipped to operate microturn: alerts and a dashboard that ask only for what the product really exports.

The checks that need promtool are left out where it is not; `.ci/prometheus_tools` fetches it.
"""

from __future__ import annotations

import json
import re
import runpy
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # because its stubs are a package that nothing else needs
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from microturn.protocols import telemetry_names as names

pytestmark = [pytest.mark.redis, pytest.mark.timeout(60)]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
_METRIC = re.compile(r"\b((?:microturn|gen_ai)_[a-z_]+)(?=[{\[) ]|$)")
_LABELS = re.compile(r"\{([^}]*)\}|(?:by|on) \(([^)]*)\)")
_FOREIGN = {"le", "job", "instance", "__name__"}
"""Labels that Prometheus itself gives."""


@pytest.fixture(scope="module")
def prometheus_tools() -> Path:
    """The folder with promtool and prometheus."""
    found = subprocess.run(
        [ROOT / ".ci/prometheus_tools", "--here"], check=False, capture_output=True, text=True
    )
    if found.returncode:
        pytest.skip(found.stderr.strip())
    return Path(found.stdout.strip())


def dashboard() -> dict[str, Any]:
    """As Grafana is given it; JSON, whose values are of any type."""
    loaded: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/microturn.json").read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def plain(query: str) -> str:
    """A query of the dashboard as Grafana sends it."""
    return query.replace("$__rate_interval", "5m").replace("$instance", ".*")


@contextmanager
def endpoint(folder: Path) -> Iterator[int]:
    """The port of a process that exports every metric."""
    port = free_port()
    program = [sys.executable, str(Path(__file__).with_name("metrics_program.py")), str(port), str(folder)]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield port
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of all series that the product exports."""
    with endpoint(tmp_path_factory.mktemp("metrics") / "server") as port:
        text = get(f"http://127.0.0.1:{port}/metrics")
    return {re.split(r"[{ ]", line)[0] for line in text.splitlines() if line and not line.startswith("#")}


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as reply:
        text: str = reply.read().decode()
        return text


def test_every_metric_of_the_dashboard_and_of_the_alerts_is_exported(exported: set[str]) -> None:
    texts = [*queries(), *(rule["expr"] for rule in rules())]
    used = {name for text in texts for name in _METRIC.findall(re.sub(r'by \([^)]*\)|"[^"]*"', "", text))}
    used -= {name.replace(".", "_") for name in attribute_names()}
    assert len(used) > 15
    assert used - exported == set()


def test_every_label_they_use_is_an_attribute_of_ours() -> None:
    ours = {name.replace(".", "_") for name in attribute_names()}
    for text in [*queries(), *(rule["expr"] for rule in rules())]:
        for braces, by in _LABELS.findall(text):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", braces)) | set(filter(None, by.split(", ")))
            assert used <= ours | _FOREIGN, text


def attribute_names() -> set[str]:
    return {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}


def test_the_dashboard_is_the_one_that_its_program_writes() -> None:
    written = runpy.run_path(str(DEPLOY / "make_dashboard.py"))["rendered"]()
    there = (DEPLOY / "grafana/dashboards/microturn.json").read_text()
    assert there == written, "run `python deploy/make_dashboard.py`"


def test_grafanas_own_library_knows_every_field_of_the_dashboard() -> None:
    register_default_plugins()
    written = dashboard()
    understood = json.loads(JSONEncoder().encode(Dashboard.from_json(written)))
    assert list(unknown_fields(written, understood)) == []


def unknown_fields(written: object, understood: object, at: str = "") -> Iterator[str]:
    """Where something stands in a file that is gone, or is another, after a library has read it."""
    if isinstance(written, dict) and isinstance(understood, dict):
        for name, value in written.items():
            yield from unknown_fields(value, understood.get(name), f"{at}/{name}")
    elif isinstance(written, list) and isinstance(understood, list) and len(written) == len(understood):
        for number, (one, other) in enumerate(zip(written, understood, strict=True)):
            yield from unknown_fields(one, other, f"{at}/{number}")
    elif written != understood:
        yield at


def test_every_panel_can_be_read_and_none_covers_another() -> None:
    places: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["title"] and panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        own = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not own & places, panel["title"]
        places |= own
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert "rate(" not in target["expr"] or "[$__rate_interval]" in target["expr"]


def test_every_alert_says_how_bad_it_is_and_where_its_remedy_stands() -> None:
    guide = (ROOT / "docs/operators-guide.md").read_text()
    for rule in rules():
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/operators-guide.md"
        assert anchor == rule["alert"].lower()
        assert f"### {rule['alert']}\n" in guide


def test_every_alert_has_a_test() -> None:
    tested = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    fired = {
        case["alertname"] for test in tested for case in test["alert_rule_test"] if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "config", "prometheus-collector.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(prometheus_tools: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [prometheus_tools / "promtool", *words], check=False, cwd=PROMETHEUS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_can_read_every_query_of_the_dashboard(prometheus_tools: Path, tmp_path: Path) -> None:
    asked = [{"record": f"panel:{place}", "expr": plain(query)} for place, query in enumerate(queries())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    done = subprocess.run(
        [prometheus_tools / "promtool", "check", "rules", str(file)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_collector_has_all_parts_that_its_pipelines_name_and_takes_every_content_out() -> None:
    config = yaml.safe_load((DEPLOY / "otel-collector.yml").read_text())
    for pipeline in config["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(config[kind])
    assert "attributes/no_content" in config["service"]["pipelines"]["traces"]["processors"]
    taken_out = {action["key"] for action in config["processors"]["attributes/no_content"]["actions"]}
    assert {names.INTENT, names.TOOL_ARGUMENTS, names.TOOL_RESULT} <= taken_out


def test_every_file_that_the_compose_file_mounts_is_there() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yml").read_text())["services"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())]
    assert [path for path in mounted if path.startswith("./") and not (DEPLOY / path).exists()] == []


@pytest.mark.slow
def test_a_real_prometheus_scrapes_the_product_and_answers_every_panel(
    prometheus_tools: Path, tmp_path: Path
) -> None:
    with endpoint(tmp_path / "server") as scraped, prometheus(prometheus_tools, tmp_path, scraped) as api:
        until(lambda: '"health":"up"' in get(f"{api}/targets"))
        loaded = json.loads(get(f"{api}/rules"))["data"]["groups"]
        assert sum(len(group["rules"]) for group in loaded) == len(rules())
        until(lambda: bool(ask(api, "microturn_tick_duration_seconds_count")))
        time.sleep(1.2)  # two samples, without which there is no rate
        assert ask(api, "microturn_queue_lag")
        empty = [query for query in queries() if not ask(api, plain(query))]
    assert [query for query in empty if "error_type" not in query] == []  # nothing has failed


@contextmanager
def prometheus(tools: Path, folder: Path, scraped: int) -> Iterator[str]:
    """A Prometheus with our example of a configuration, but for the port that it scrapes and how often."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(PROMETHEUS / "rules.yml")]
    config["scrape_configs"] = config["scrape_configs"][:1]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{scraped}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("w"))
        process = subprocess.Popen(
            [
                tools / "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            until(lambda: "Ready" in get(f"http://127.0.0.1:{port}/-/ready"))
            yield f"http://127.0.0.1:{port}/api/v1"
        finally:
            process.kill()
            process.wait()


def ask(api: str, query: str) -> list[object]:
    """What a query gives."""
    reply = json.loads(get(f"{api}/query?{urllib.parse.urlencode({'query': query})}"))
    assert reply["status"] == "success"
    result: list[object] = reply["data"]["result"]
    return result


def until(is_so: Callable[[], bool], within_s: float = 20) -> None:
    """Wait until it is so."""
    give_up_s = time.monotonic() + within_s
    while True:
        with suppress(OSError):
            if is_so():
                return
        assert time.monotonic() < give_up_s, "it did not come in time"
        time.sleep(0.1)
