"""Make a language model of the package `transformers` give the same bits alone, in a batch, and in chunks.

Needs `pip install 'microturn[native]' transformers`. The model here is small and random; any causal model will do:

    python examples/invariant_transformer.py
    python examples/invariant_transformer.py path/or/name
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import torch

from microturn.kernels.evidence import same_bits
from microturn.kernels.invariant_model import certify, make_batch_invariant

transformers: Any = import_module("transformers")
SMALL = transformers.Qwen3Config(
    vocab_size=500,
    hidden_size=128,
    intermediate_size=300,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
)


def load(name: str | None) -> Any:
    """A model from a folder or from the hub; without a name, a small one with random weights."""
    torch.manual_seed(1)
    if name is None:
        return transformers.AutoModelForCausalLM.from_config(SMALL).eval()
    return transformers.AutoModelForCausalLM.from_pretrained(name).eval()


def main() -> None:
    """Certify the model as it is, make it invariant, and certify it again."""
    model = load(sys.argv[1] if len(sys.argv) > 1 else None)
    ids = torch.randint(3, model.config.vocab_size, (3, 24))
    before = certify(model, {"input_ids": ids}, batches=(2, 5, 17), chunks=(1, 7))
    print(f"before: {len(before.variant)} layers or ways to run it give other bits in other batches")
    after = certify(make_batch_invariant(model), {"input_ids": ids}, batches=(2, 5, 17), chunks=(1, 7))
    print(after)
    with torch.inference_mode():
        alone, together = model(ids[:1]).logits[0], model(ids).logits[0]
    print(f"the first sequence alone and among others: same bits: {same_bits(alone, together)}")


if __name__ == "__main__":
    main()
