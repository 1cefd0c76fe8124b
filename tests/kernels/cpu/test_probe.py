"""The probe takes the first policy whose rows are the same in every batch, and remembers it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from microturn.kernels._errors import NoInvariantPolicyError
from microturn.kernels.cpu import probe
from microturn.kernels.cpu.policy import NATIVE, ROW_BY_ROW, Multiply, Policy, policies
from microturn.kernels.cpu.probe import LinearShape, certified, is_invariant, policy_for
from microturn.kernels.cpu.processor import FLAGS, Processor, processor

pytestmark = pytest.mark.unit

SHAPE = LinearShape(torch.float32, 40, 24, 1, "highest")


@pytest.fixture(autouse=True)
def _nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder for findings, and one thread."""
    monkeypatch.setenv("MICROTURN_CACHE", str(tmp_path))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    probe.forget()
    yield
    probe.forget()
    torch.set_num_threads(before)


def _exact(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """Whole numbers, whose sum has no rounding, in whatever order it is added."""
    return ((x.double() * 16).round() @ (parts[0].double() * 16).round().T).to(x.dtype)


def _by_rows_in_batch(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    return _exact(x, parts, bias) * (1.0 if x.shape[0] != 24 else 1 + 2**-20)


def _by_place(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    result = _exact(x, parts, bias)
    result[2:3] *= 1 + 2**-20
    return result


def _by_neighbours(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    return _exact(x, parts, bias) + x.abs().max() * 2**-20


def _by_threads(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    return _exact(x, parts, bias) * (1.0 if torch.get_num_threads() == 1 else 1 + 2**-20)


def _refused(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    raise RuntimeError("no such instruction")


def _policy(multiply: Multiply) -> Policy:
    return Policy(multiply.__name__, multiply, lambda weight: (weight,), least_rows=1)


BATCH_DEPENDENT = (_by_rows_in_batch, _by_place, _by_neighbours)


def test_a_policy_of_exact_sums_is_certified() -> None:
    assert is_invariant(_policy(_exact), SHAPE, (1, 2))


@pytest.mark.parametrize("multiply", BATCH_DEPENDENT)
def test_a_policy_that_depends_on_the_batch_is_found_out(multiply: Multiply) -> None:
    assert not is_invariant(_policy(multiply), SHAPE, (1,))


def test_a_policy_that_depends_on_the_threads_is_found_out() -> None:
    assert is_invariant(_policy(_by_threads), SHAPE, (1,))
    assert not is_invariant(_policy(_by_threads), SHAPE, (1, 2))
    assert torch.get_num_threads() == 1


def test_a_packed_weight_with_other_bits_is_found_out() -> None:
    nudged = replace(_policy(_exact), pack=lambda weight: (weight * 1.5,))
    assert not is_invariant(nudged, SHAPE, (1,))


def test_the_native_linear_of_float32_is_never_certified_nor_a_candidate() -> None:
    assert not is_invariant(NATIVE, LinearShape(torch.float32, 1100, 40, 1, "highest"), (1,))
    assert NATIVE not in policies(torch.float32)


def test_rounding_to_bfloat16_hides_no_other_order_of_additions() -> None:
    native = replace(NATIVE, multiply=_other_order_for_one_row)
    assert not is_invariant(native, LinearShape(torch.bfloat16, 300, 8, 1, "highest"), (1,))


def _other_order_for_one_row(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """Sums in float32, and for a single row from the other end of K."""
    products = x.float()[:, None, :] * parts[0].float()
    return (products.flip(-1) if x.shape[0] == 1 else products).sum(-1).to(x.dtype)


def test_the_first_policy_that_is_invariant_is_taken() -> None:
    candidates = [_policy(multiply) for multiply in (_refused, *BATCH_DEPENDENT, _exact, _refused)]
    assert certified(SHAPE, candidates, (1,)).name == "_exact"


def test_an_error_names_what_was_tried_where_nothing_is_invariant() -> None:
    candidates = [_policy(_by_place), _policy(_refused)]
    with pytest.raises(NoInvariantPolicyError, match=r"K 40, N 24.*_by_place, _refused"):
        certified(SHAPE, candidates, (1,))


def test_row_by_row_is_the_last_resort_for_every_dtype() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert policies(dtype)[-1] is ROW_BY_ROW


def test_a_wide_weight_is_tried_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MOST_COLUMNS", 128)
    seen: list[int] = []

    def spy(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        seen.append(parts[0].shape[0])
        return _exact(x, parts, bias)

    assert is_invariant(_policy(spy), SHAPE._replace(outer=1000), (1,))
    assert set(seen) == {128 + 1000 % 64}


def _no_probe(*_: object) -> bool:
    raise AssertionError("it was probed again")


def test_a_finding_is_kept_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    found = policy_for(torch.float32, 40, 24)
    probe.forget()
    monkeypatch.setattr(probe, "is_invariant", _no_probe)
    assert policy_for(torch.float32, 40, 24) is found


@pytest.mark.parametrize(
    "content",
    (b"\xff\xfe{", b"[1, 2]", b"null", b'{"float32 40x24 1 highest": ["chain"]}', b'{"float32 40x24'),
)
def test_a_damaged_file_is_probed_anew_and_replaced(content: bytes) -> None:
    probe.cache_file().parent.mkdir(parents=True)
    probe.cache_file().write_bytes(content)
    found = policy_for(torch.float32, 40, 24)
    assert json.loads(probe.cache_file().read_text())["float32 40x24 1 highest"] == found.name


def test_a_policy_that_is_no_candidate_for_the_dtype_is_probed_anew() -> None:
    probe.cache_file().parent.mkdir(parents=True)
    probe.cache_file().write_text(json.dumps({"float32 40x24 1 highest": "native", "kept": "as it is"}))
    assert policy_for(torch.float32, 40, 24) is not NATIVE
    assert json.loads(probe.cache_file().read_text())["kept"] == "as it is"


def test_a_folder_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MICROTURN_CACHE", str(tmp_path / "file"))
    assert policy_for(torch.float32, 40, 24) in policies(torch.float32)


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    policy_for(torch.float32, 40, 24)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [probe.cache_file()]


def test_another_number_of_threads_is_tried_with_the_policy_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = policy_for(torch.float32, 40, 24)
    tried: list[tuple[str, tuple[int, ...]]] = []

    def note(policy: Policy, shape: LinearShape, counts: Sequence[int]) -> bool:
        tried.append((policy.name, tuple(counts)))
        return True

    monkeypatch.setattr(probe, "is_invariant", note)
    torch.set_num_threads(5)
    assert policy_for(torch.float32, 40, 24) is found
    assert tried == [(found.name, (5,))]


def test_another_precision_of_float32_is_probed_apart() -> None:
    policy_for(torch.float32, 40, 24)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        policy_for(torch.float32, 40, 24)
    finally:
        torch.set_float32_matmul_precision(before)
    assert "float32 40x24 1 medium" in json.loads(probe.cache_file().read_text())


def test_the_processor_is_told_apart_by_each_of_its_parts() -> None:
    here = Processor("x86_64", "a name", "avx2 fma", "AVX2", "2.13", ())
    others = [
        replace(here, machine="aarch64"),
        replace(here, name="another"),
        replace(here, features="avx2"),
        replace(here, capability="AVX512"),
        replace(here, libraries="2.14"),
        replace(here, flags=(("MKL_CBWR", "COMPATIBLE"),)),
    ]
    assert len({one.fingerprint() for one in (here, *others)}) == len(others) + 1


def test_the_processor_is_read_with_its_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    for flag in FLAGS:
        monkeypatch.delenv(flag, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    read = processor.__wrapped__()
    assert read.flags == (("ONEDNN_MAX_CPU_ISA", "AVX2"),)
    assert torch.__version__ in read.libraries
    assert read.machine
    assert read.capability == torch.backends.cpu.get_cpu_capability()


def test_a_system_without_a_list_of_processors_has_a_fingerprint_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microturn.kernels.cpu.processor._CPUINFO", tmp_path / "missing")
    read = processor.__wrapped__()
    assert read.features == ""
    assert len(read.fingerprint()) == 16
