"""Python that a model has written: it runs in the sandbox, and what goes wrong in it is told to the model."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from microturn.tools import ToolContext, ToolRegistry
from microturn.tools.builtin import run_python
from microturn.tools.isolation import bubblewrap, landlock
from microturn.tools.isolation.sandbox import sandbox_refusal

pytestmark = [
    pytest.mark.unit,
    pytest.mark.anyio,
    pytest.mark.skipif(sandbox_refusal() is not None, reason="no sandbox works here"),
]


@pytest.fixture
async def registry() -> AsyncIterator[ToolRegistry]:
    async with ToolRegistry([run_python]) as entered:
        yield entered


async def test_what_code_prints_and_its_last_value_are_the_result(
    registry: ToolRegistry, context: ToolContext
) -> None:
    code = "import math\nfor n in (1, 2):\n    print(n)\nmath.factorial(20)"
    result = await registry.call("run_python", {"code": code}, context)
    assert (result.text, result.is_error) == ("1\n2\n2432902008176640000\n", False)

    numbers = await registry.call(
        "run_python", {"code": "import numpy\nnumpy.arange(4).sum().item()"}, context
    )
    assert numbers.text == "6\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\nx / 0", "line 2: ZeroDivisionError: division by zero"),
        ("for", "SyntaxError"),
        ("open('/etc/passwd')", "FileNotFoundError"),
        ("import socket; socket.socket()", "PermissionError"),
        ("import subprocess; subprocess.run(['true'])", "PermissionError"),
        ("import os; os.kill(os.getpid(), 9)", "its process ended"),
    ],
)
async def test_what_goes_wrong_is_told(
    registry: ToolRegistry, code: str, said: str, context: ToolContext
) -> None:
    result = await registry.call("run_python", {"code": code}, context)
    assert result.is_error and said in result.text


async def test_endless_output_is_cut_and_silence_is_mentioned(
    registry: ToolRegistry, context: ToolContext
) -> None:
    flood = await registry.call("run_python", {"code": "for _ in range(50_000): print('x' * 1000)"}, context)
    silent = await registry.call("run_python", {"code": "x = 1"}, context)
    assert flood.truncated and not flood.is_error
    assert "printed nothing" in silent.text


def test_it_is_not_offered_where_no_sandbox_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "refusal", lambda: "bubblewrap is not installed")
    monkeypatch.setattr(landlock, "refusal", lambda: "sandlock is not installed")

    registry = ToolRegistry.from_entry_points()

    assert "microturn[sandbox]" in registry.left_out["run_python"]
    names = [spec.name for spec in registry.specs()]
    assert "run_python" not in names and "calculator" in names
    assert "builtin" not in registry.broken
