"""Certificates, and models of `transformers` made batch-invariant as they are."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microturn.kernels import BadShapeError
from microturn.kernels.aten_overrides import is_batch_invariant_mode
from microturn.kernels.certificate import Certificate
from microturn.kernels.evidence import same_bits
from microturn.kernels.fingerprint import numerics_fingerprint
from microturn.kernels.invariant_model import certify, make_batch_invariant
from microturn.protocols import UserError
from tests.kernels.tiny_models import TINY, VOCABULARY, tiny_model

pytestmark = pytest.mark.unit

EXAMPLE = Path(__file__).parents[2] / "examples/invariant_transformer.py"
BATCHES = (2, 17)


def token_ids(rows: int, length: int) -> Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(4))


def certificate(model: nn.Module, *, length: int = 27, chunks: tuple[int, ...] = (1, 7)) -> Certificate:
    return certify(model, {"input_ids": token_ids(3, length)}, batches=BATCHES, chunks=chunks)


@pytest.mark.parametrize("name", TINY)
def test_a_model_is_made_batch_invariant(name: str) -> None:
    model = tiny_model(name)
    with torch.no_grad():
        wanted = model(token_ids(3, 27)).logits
    before = certificate(model)
    assert not before.is_invariant
    assert {finding.name for finding in before.variant} >= {"lm_head", "at once and in chunks"}
    after = certificate(make_batch_invariant(model))
    assert after.is_invariant, str(after)
    assert [finding.name for finding in after.whole] == [
        "a row alone and among others",
        "without and with padding",
        "at once and in chunks",
    ]
    with torch.no_grad():
        torch.testing.assert_close(model(token_ids(3, 27)).logits, wanted, rtol=1e-4, atol=1e-5)


def test_a_model_of_bfloat16_is_made_batch_invariant() -> None:
    after = certificate(make_batch_invariant(tiny_model("inkling", torch.bfloat16)), chunks=(5,))
    assert after.is_invariant, str(after)


def test_contexts_of_several_splits_in_windows_and_caches_keep_their_bits() -> None:
    """Inkling's sliding layers crop their cache, so that its first key wanders across a split's boundary."""
    model, ids = make_batch_invariant(tiny_model("inkling")), token_ids(1, 150)
    cache, parts = None, []
    with torch.no_grad():
        for part in torch.split(ids, 17, dim=1):
            result = model(part, past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            parts.append(result.logits)
        assert same_bits(torch.cat(parts, dim=1), model(ids).logits)


def test_a_sequence_padded_on_the_left_keeps_its_bits() -> None:
    model, ids = make_batch_invariant(tiny_model("llama")), token_ids(2, 140)
    pads = (5, 0)
    width = 140 + max(pads)
    rows = torch.stack([F.pad(row, (width - 140, 0)) for row in ids])
    rows[1] = F.pad(ids[1], (0, width - 140))
    mask = torch.ones_like(rows)
    mask[0, :5] = mask[1, 140:] = 0
    with torch.no_grad():
        alone = model(ids).logits
        both = model(rows, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp_min(0)).logits
    assert same_bits(both[0, 5:], alone[0])
    assert same_bits(both[1, :140], alone[1])


def test_generation_gives_the_same_tokens_and_scores_alone_and_together() -> None:
    model, ids = make_batch_invariant(tiny_model("qwen3")), token_ids(3, 20)
    asked: dict[str, Any] = {
        "max_new_tokens": 8,
        "do_sample": False,
        "pad_token_id": 0,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    together = model.generate(ids, **asked)  # type: ignore[operator]  # the package is not typed
    alone = [model.generate(ids[row : row + 1], **asked) for row in range(3)]  # type: ignore[operator]  # as above
    for row, one in enumerate(alone):
        assert torch.equal(one.sequences[0], together.sequences[row])
        for step, logits in enumerate(one.logits):
            assert same_bits(logits[0], together.logits[step][row])


def test_a_plain_module_is_certified_too() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(300, 257), nn.SiLU(), nn.Conv1d(6, 5, 3)).eval()
    example = torch.randn(4, 6, 300)
    before = certify(model, example, batches=BATCHES)
    assert [finding.kind for finding in before.layers] == ["Linear", "SiLU", "Conv1d"]
    assert {finding.name for finding in before.variant} >= {"0"}
    after = certify(make_batch_invariant(model), example, batches=BATCHES)
    assert after.is_invariant, str(after)


def test_a_certificate_reads_as_a_table() -> None:
    torch.manual_seed(3)
    found = certify(nn.Sequential(nn.Linear(300, 257), nn.ReLU()), torch.randn(4, 300), batches=BATCHES)
    head, first, second, *_ = str(found).splitlines()
    assert head.startswith("Sequential: NOT batch-invariant in ")
    assert numerics_fingerprint() in head
    assert first.split()[:2] == ["0", "Linear"]
    assert "differ, first: 2 rows, row 0" in first
    assert second.split()[:5] == ["1", "ReLU", "same", "bits", "in"]


def test_what_mixes_rows_is_not_certified_even_in_the_mode() -> None:
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    found = certify(make_batch_invariant(Mixing()), torch.randn(3, 8), batches=BATCHES)
    assert not found.is_invariant
    assert found.whole[0].evidence.mismatches


def test_the_mode_ends_with_the_call_even_if_that_fails() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert is_batch_invariant_mode()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_batch_invariant(Failing())(torch.zeros(1))
    assert not is_batch_invariant_mode()


def test_making_a_model_invariant_twice_changes_nothing() -> None:
    model = make_batch_invariant(nn.Linear(3, 3))
    forward = model.forward
    assert make_batch_invariant(model).forward is forward


def test_one_row_cannot_be_compared() -> None:
    with pytest.raises(BadShapeError, match="expected example to be two rows or more, got '1 rows'"):
        certify(nn.Linear(3, 3), torch.zeros(1, 3))


@pytest.mark.timeout(120)
def test_the_example_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["invariant_transformer.py"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    out = capsys.readouterr().out
    assert "Qwen3ForCausalLM: batch-invariant" in out
    assert "same bits: True" in out


def test_attention_with_soft_capped_scores_is_refused() -> None:
    from microturn.kernels.transformers_attention import attend

    x = torch.zeros(1, 2, 3, 4)
    with pytest.raises(UserError, match="softcap"):
        attend(nn.Identity(), x, x, x, None, softcap=30.0)
