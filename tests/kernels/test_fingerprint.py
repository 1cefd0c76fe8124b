"""The numeric fingerprint: the same in every process of one kind, another where something that decides bits differs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from microturn.kernels import FingerprintMismatchError
from microturn.kernels.fingerprint import fingerprint_parts, numerics_fingerprint, require_fingerprint
from microturn.kernels.spec import SPEC_VERSION

pytestmark = [pytest.mark.unit, pytest.mark.timeout(120)]


def elsewhere(**flags: str) -> list[str]:
    """The fingerprint with one and with two threads in a new process."""
    program = (
        "import torch; from microturn.kernels.fingerprint import numerics_fingerprint as name;"
        "torch.set_num_threads(1); print(name()); torch.set_num_threads(2); print(name())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **flags},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return done.stdout.split()


def test_it_is_the_same_in_another_process_and_with_other_threads() -> None:
    assert elsewhere() == [numerics_fingerprint()] * 2


def test_it_changes_with_a_flag_that_changes_instructions() -> None:
    flagged, again = elsewhere(ONEDNN_MAX_CPU_ISA="AVX2")
    assert flagged == again != numerics_fingerprint()


def test_it_changes_with_a_setting_of_pytorch() -> None:
    before, setting = numerics_fingerprint(), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert numerics_fingerprint() != before
    finally:
        torch.set_float32_matmul_precision(setting)
    assert numerics_fingerprint() == before


def test_it_begins_with_what_a_person_wants_to_know() -> None:
    name = numerics_fingerprint()
    assert name.startswith(f"v{SPEC_VERSION}-")
    assert f"torch{torch.__version__.split('+')[0]}" in name
    assert "threads" not in str(fingerprint_parts()["settings"])


def test_numbers_from_elsewhere_are_refused() -> None:
    require_fingerprint(numerics_fingerprint(), "the recording talk.flac")
    with pytest.raises(
        FingerprintMismatchError, match=r"talk\.flac was made under .*'v0-other'.*make it anew"
    ):
        require_fingerprint("v0-other", "the recording talk.flac")
