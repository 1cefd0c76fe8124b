"""Oracles in float64: every row-wise operator and the linears, plain and slow, for tests to compare with.

Each function has the name and the arguments of its operator, takes any dtype, computes in float64 without any
rounding in between, and returns float64 (indices int64). Attention's oracles stand in `reference_attention`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microturn.kernels import mel_filters

HASH_STARTS = (0x9E3779B9, 0x85EBCA6B)
"""What the two keys of the sampling noise begin with."""
HASH_FACTORS = (0x7FEB352D, 0x846CA68B)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x (..., K)`, `weight (N, K)`, `bias (N,)` -> `(..., N)`."""
    product = x.double() @ weight.double().T
    return product if bias is None else product + bias.double()


def linear_shards(x: Tensor, weight: Tensor, shards: int) -> Tensor:
    """`x (T, K)`, `weight (N, K)` -> `(shards, T, N)`: partial sums over equal parts of K."""
    parts = zip(x.double().chunk(shards, 1), weight.double().chunk(shards, 1), strict=True)
    return torch.stack([columns @ part.T for columns, part in parts])


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """`a (M, K)`, `b (K, N)` -> `(M, N)`."""
    return a.double() @ b.double()


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """`a (B, M, K)`, `b (B, K, N)` -> `(B, M, N)`."""
    return a.double() @ b.double()


def rms_normalised(x: Tensor, eps: float) -> Tensor:
    """`x (..., C)` divided by the root of its mean square plus `eps`."""
    wide = x.double()
    return wide / torch.sqrt(wide.square().mean(-1, keepdim=True) + eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x (..., C)`, `weight (C,)` -> `(..., C)`."""
    return weight.double() * rms_normalised(x, eps)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm of `x + residual`, and that sum; the sum is rounded to the dtype before the norm, as specified."""
    total = (x.double() + residual.double()).to(x.dtype)
    return rms_norm(total, weight, eps), total.double()


def adaptive_rms_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """All `(T, C)` -> `(T, C)`."""
    return rms_normalised(x, eps) * (1.0 + scale.double()) + shift.double()


def mean(x: Tensor) -> Tensor:
    """`x (..., C)` -> `(...)`."""
    return x.double().mean(-1)


def softmax(x: Tensor) -> Tensor:
    """Over the last dimension."""
    return torch.softmax(x.double(), -1)


def log_softmax(x: Tensor) -> Tensor:
    """Over the last dimension."""
    return torch.log_softmax(x.double(), -1)


def lm_head_logprob(h: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """`h (T, C)`, `weight (V, C)`, `targets (T,)` -> log-probability and logsumexp, each `(T,)`."""
    logits = linear(h, weight)
    logsumexp = torch.logsumexp(logits, -1)
    return logits.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1) - logsumexp, logsumexp


def lm_head_argmax(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`h (T, C)`, `weight (V, C)` -> ids, their logits and the logsumexp, each `(T,)`."""
    logits = linear(h, weight)
    ids = _first_maximum(logits)
    return ids, logits.amax(-1), torch.logsumexp(logits, -1)


def _first_maximum(x: Tensor) -> Tensor:
    """The lowest index of the largest value of each row."""
    columns = torch.arange(x.shape[-1], device=x.device)
    is_largest = x == x.amax(-1, keepdim=True)
    return torch.where(is_largest, columns, x.shape[-1]).amin(-1)


def silu(x: Tensor) -> Tensor:
    """`x * sigmoid(x)`, elementwise."""
    return x.double() * torch.sigmoid(x.double())


def swiglu(gate_up: Tensor) -> Tensor:
    """`gate_up (..., 2I)` -> `(..., I)`."""
    gate, up = gate_up.double().chunk(2, -1)
    return silu(gate) * up


def route(
    x: Tensor, weight: Tensor, correction: Tensor, top_k: int, shared: int, scale: float
) -> tuple[Tensor, Tensor]:
    """`x (T, C)`, `weight (E + shared, C)`, `correction (E,)` -> ids and weights, each `(T, top_k + shared)`."""
    logits = linear(x, weight)
    experts = correction.shape[0]
    choice = torch.sigmoid(logits[:, :experts]) + correction.double()
    chosen = torch.sort(choice, dim=-1, descending=True, stable=True).indices[:, :top_k]
    appended = torch.arange(experts, experts + shared, device=x.device).expand(x.shape[0], shared)
    ids = torch.cat([chosen, appended], -1)
    weights = torch.softmax(torch.nn.functional.logsigmoid(logits.gather(-1, ids)), -1)
    return ids, weights * scale


def moe(x: Tensor, gate_up: Tensor, down: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """`x (T, C)`, `gate_up (E, 2I, C)`, `down (E, C, I)`, `ids` and `weights (T, K)` -> `(T, C)`."""
    rows = []
    for row, chosen, weighting in zip(x.double(), ids.tolist(), weights.double(), strict=True):
        total = torch.zeros_like(row)
        for expert, weight in zip(chosen, weighting, strict=True):
            inner = swiglu(gate_up[expert].double() @ row)
            total = total + weight * (down[expert].double() @ inner)
        rows.append(total)
    return torch.stack(rows) if rows else x.double()


def dmel_log_mels(audio: Tensor, carry: Tensor) -> Tensor:
    """`audio (S, n * 800)`, `carry (S, 800)` -> log10 energies `(S, n, 80)`, clamped, not yet rounded to levels.

    A sample that is not finite counts as silence.
    """
    sound = torch.nan_to_num(torch.cat([carry, audio], -1).double(), nan=0.0, posinf=0.0, neginf=0.0)
    sound = sound.clamp(-mel_filters.LOUDEST, mel_filters.LOUDEST)
    frames = sound.unfold(-1, mel_filters.WINDOW_SAMPLES, mel_filters.HOP_SAMPLES)
    window = torch.hann_window(mel_filters.WINDOW_SAMPLES, dtype=torch.float64)
    power = torch.fft.rfft(frames * window).abs().square()
    magnitudes = power.clamp_min(mel_filters.POWER_FLOOR).sqrt()
    energies = magnitudes @ mel_filters.mel_filters_float64().T
    log_mels: Tensor = energies.clamp_min(mel_filters.MEL_FLOOR).log10()
    return log_mels.clamp(mel_filters.LOG10_MIN, mel_filters.LOG10_MAX)


def dmel_levels(audio: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
    """`audio (S, n * 800)`, `carry (S, 800)` -> levels `(S, n, 80)` 0..15, and the last 800 samples."""
    centres = torch.linspace(
        mel_filters.LOG10_MIN, mel_filters.LOG10_MAX, mel_filters.LEVELS, dtype=torch.float64
    )
    distances = (dmel_log_mels(audio, carry).unsqueeze(-1) - centres).abs()
    kept = torch.cat([carry, audio], -1)[:, -mel_filters.HOP_SAMPLES :].double()
    return distances.argmin(-1), torch.nan_to_num(kept, nan=0.0, posinf=0.0, neginf=0.0)


def dmel_embed(levels: Tensor, table: Tensor, norm_weight: Tensor, eps: float) -> Tensor:
    """`levels (F, 80)`, `table (80 * 16, C)`, `norm_weight (C,)` -> `(F, C)`."""
    rows = torch.arange(mel_filters.MEL_BINS, device=levels.device) * mel_filters.LEVELS + levels.long()
    return rms_norm(table.double()[rows].sum(1), norm_weight, eps)


def flow_step(x: Tensor, velocity: Tensor, dt: float) -> Tensor:
    """One Euler step."""
    return x.double() + dt * velocity.double()


def guided_flow_step(
    x: Tensor, conditional: Tensor, unconditional: Tensor, dt: float, guidance: float
) -> Tensor:
    """One Euler step along the guided velocity."""
    difference = conditional.double() - unconditional.double()
    return x.double() + dt * (unconditional.double() + guidance * difference)


def _mixed(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The 32-bit finaliser lowbias32 (Chris Wellons, hash-prospector, public domain)."""
    low = np.uint64(0xFFFFFFFF)
    word = word ^ (word >> np.uint64(16))
    word = (word * np.uint64(HASH_FACTORS[0])) & low
    word = word ^ (word >> np.uint64(15))
    word = (word * np.uint64(HASH_FACTORS[1])) & low
    return word ^ (word >> np.uint64(16))


def sampling_hash(seeds: Tensor, positions: Tensor, columns: int) -> Tensor:
    """The noise's integers: `seeds (T,)`, `positions (T,)` int64 -> `(T, columns)` int64 in [0, 2**32).

    With `mix` the finaliser, `^` exclusive or, and 64-bit numbers cut into a low and a high word of 32 bits:
    key_i = mix(mix(mix(mix(seed_low ^ HASH_STARTS[i]) ^ seed_high) ^ position_low) ^ position_high), and
    hash = mix((mix(column ^ key_0) + key_1) mod 2**32).
    """
    words = [_words(seeds), _words(positions)]
    column = np.arange(columns, dtype=np.uint64)
    keys = []
    for start in HASH_STARTS:
        key = np.full(len(seeds), start, dtype=np.uint64)
        for low, high in words:
            key = _mixed(_mixed(key ^ low) ^ high)
        keys.append(key[:, None])
    total = (_mixed(column ^ keys[0]) + keys[1]) & np.uint64(0xFFFFFFFF)
    return torch.from_numpy(_mixed(total).astype(np.int64))


def _words(numbers: Tensor) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The low and the high 32 bits of int64 numbers."""
    unsigned = numbers.cpu().numpy().view(np.uint64)
    return unsigned & np.uint64(0xFFFFFFFF), unsigned >> np.uint64(32)


def gumbel_noise(hashes: Tensor) -> Tensor:
    """Gumbel noise of 32-bit integers: -log(-log(1 - u)) with u = (hash + 1/2) / 2**32."""
    return -torch.log(-torch.log1p(-(hashes.double() + 0.5) / 2.0**32))


def sample(logits: Tensor, seeds: Tensor, positions: Tensor, temperature: Tensor) -> Tensor:
    """`logits (T, V)`, the others `(T,)` -> ids `(T,)`; a temperature of 0 takes the largest logit."""
    noise = gumbel_noise(sampling_hash(seeds, positions, logits.shape[-1])).to(logits.device)
    is_greedy = (temperature <= 0).unsqueeze(-1)
    divisor = torch.where(is_greedy, 1.0, temperature.double().unsqueeze(-1))
    scores = logits.double() / divisor + torch.where(is_greedy, 0.0, noise)
    return _first_maximum(scores)
