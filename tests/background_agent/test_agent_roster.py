"""Agents by name: from a file to the engine that does a task."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from microturn.background_agent import (
    AgentRoster,
    Control,
    Emit,
    LocalFile,
    RemoteModel,
    RunLimits,
    TokenPrices,
    choose_agents,
    choose_model,
    engine_from_environment,
)
from microturn.background_agent.scripted_model import Say, scripted_model
from microturn.protocols import ContextPackage, UserError
from microturn.tools import ToolRegistry
from tests.background_agent.stand_ins import Sent, package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

TWO = """
[agents.fast]
model = "openai:small"
url = "http://127.0.0.1:1/v1"
key_env = "FAST_KEY"
engine = "loop"
limits = { requests = 3, seconds = 20, cost_usd = 0.5 }
prices = { input_usd = 1, output_usd = 2 }

[agents.deep]
model = "anthropic:large"
"""


def write(folder: Path, text: str) -> dict[str, str]:
    path = folder / "agents.toml"
    path.write_text(text)
    return {"MICROTURN_AGENTS": str(path), "FAST_KEY": "sk-secret", "MICROTURN_MODEL_FILE": "/models/x.gguf"}


def test_a_file_names_agents_beside_the_one_of_the_environment(tmp_path: Path) -> None:
    chosen = choose_agents(write(tmp_path, TWO))
    assert list(chosen) == ["default", "fast", "deep"]
    assert chosen["default"] == LocalFile(Path("/models/x.gguf"))
    assert chosen["fast"] == RemoteModel(
        "http://127.0.0.1:1/v1",
        "small",
        "sk-secret",
        engine="loop",
        limits=RunLimits(requests=3, seconds=20, cost_usd=0.5),
        prices=TokenPrices(input_usd=1, output_usd=2),
    )
    assert chosen["deep"] == RemoteModel(None, "large", provider="anthropic")


def test_a_file_may_name_the_default_and_nothing_local_is_looked_for(tmp_path: Path) -> None:
    environment = write(tmp_path, '[agents.default]\nmodel = "google:large"\n')
    del environment["MICROTURN_MODEL_FILE"]
    assert choose_model(environment, free_bytes=0) == RemoteModel(None, "large", provider="google")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[agents.a]\n", "either `model` or `file`"),
        ('[agents.a]\nmodel = "large"\n', "agents.a.model"),
        ('[agents.a]\nmodel = "openai:x"\nspeed = 9\n', "agents.a.speed"),
        ('[agents.a]\nmodel = "openai:x"\nlimits = { requests = 0 }\n', "agents.a.limits.requests"),
        ('[agents.a]\nfile = "x"\nengine = "pydantic-ai"\n', "`loop` only"),
        ('[agents.a]\nmodel = "google:x"\nengine = "loop"\n', "cannot run on the engine loop"),
        ('[agents.a]\nmodel = "openai:x"\nkey_env = "NOT_SET"\n', "NOT_SET, which is not set"),
        (
            '[agents.a]\nmodel = "openai:x"\nurl = "http://h"\nengine = "loop"\nlimits = { cost_usd = 1 }\n',
            "no `prices`",
        ),
        ("[agents", "no TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError) as raised:
        choose_agents(write(tmp_path, text))
    assert told in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        choose_agents({"MICROTURN_AGENTS": str(tmp_path / "nowhere.toml")})


class Named:
    """Says its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        await emit("final", text=self.name)


async def test_a_task_goes_to_the_agent_it_names_and_else_to_the_default(
    caplog: pytest.LogCaptureFixture,
) -> None:
    roster = AgentRoster({"deep": Named("deep"), "default": Named("default")})
    assert roster.names == ("default", "deep")
    sent = Sent()
    with caplog.at_level(logging.WARNING):
        for name in ("deep", "default", "fast", "fast"):
            task = package(agent=name)
            await roster.run(task, ToolRegistry(), sent, Control())
    assert [event.text for event in sent.events] == ["deep", "default", "default", "default"]
    assert len(caplog.records) == 1


def test_a_roster_without_a_default_is_refused() -> None:
    with pytest.raises(ValueError, match="'default'"):
        AgentRoster({"deep": Named("deep")})


async def test_agents_of_a_file_answer_on_their_own_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent()
    async with (
        scripted_model(Say("Quick.")) as quick,
        scripted_model(Say("Thorough."), wire="vllm") as thorough,
    ):
        text = (
            f'[agents.default]\nmodel = "openai:q"\nurl = "{quick.url}"\nengine = "loop"\n'
            f'[agents.deep]\nmodel = "openai:t"\nurl = "{thorough.url}"\nengine = "pydantic-ai"\n'
        )
        for name, value in write(tmp_path, text).items():
            monkeypatch.setenv(name, value)
        async with engine_from_environment() as roster:
            for agent in ("default", "deep"):
                task = package(agent=agent)
                await roster.run(task, ToolRegistry(), sent, Control())
    assert [event.text for event in sent.events] == ["Quick.", "Thorough."]
    assert [event.detail["model"] for event in sent.events] == ["q", "t"]
