"""Linears under other instruction sets than this processor's best, in processes of their own.

The settings make libraries behave as on older processors. One that this processor does not have cannot be emulated, so
on an older one some of these processes are alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from microturn.kernels.cpu.processor import FLAGS

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("instruction_set_program.py")
SETTINGS: dict[str, dict[str, str]] = {
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "AVX512 without bfloat16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
    "compatible MKL": {"MKL_CBWR": "COMPATIBLE"},
    "compatible MKL without vectors": {
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
    },
}
IS_LONG = os.environ.get("MICROTURN_LONG_TESTS") == "1"
CHOSEN = tuple(SETTINGS) if IS_LONG else ("AVX2", "compatible MKL without vectors")
CACHES = {"native": "native"} | {name: name.replace(" ", "-") for name in SETTINGS}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("findings")


@cache
def _findings(name: str, threads: int, root: Path) -> dict[str, Any]:
    inherited = {key: value for key, value in os.environ.items() if key not in FLAGS}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(threads)],
        env=inherited | SETTINGS.get(name, {}) | {"MICROTURN_CACHE": str(root / CACHES[name])},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("threads", (1, 8) if IS_LONG else (3,))
@pytest.mark.parametrize("name", CHOSEN)
def test_linears_are_invariant_and_integers_exact_under(name: str, threads: int, root: Path) -> None:
    found, native = _findings(name, threads, root), _findings("native", 2, root)
    assert found["torch.float32 is invariant"], found
    assert found["torch.bfloat16 is invariant"], found
    assert found["prepared_rows_agree"], found
    assert found["int8_sums_are_exact"]
    assert found["int8"] == native["int8"]
    assert found["processor"] != native["processor"]
    if found["policy"] == native["policy"] == "chain":
        assert found["float32"] == native["float32"], "the chain has other bits under other instructions"


@pytest.mark.timeout(120)
def test_the_chain_is_in_use_from_avx2_on(root: Path) -> None:
    features = Path("/proc/cpuinfo")
    if not features.exists() or "avx2" not in features.read_text():
        pytest.skip("this processor has no AVX2, or does not tell")
    assert _findings("native", 2, root)["policy"] == "chain"
    assert _findings("AVX2", 3, root)["policy"] == "chain"
