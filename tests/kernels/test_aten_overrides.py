"""The batch-invariant mode: what it changes, that it changes no more, and that it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from microturn.kernels.aten_overrides import (
    disable_batch_invariant_mode,
    enable_batch_invariant_mode,
    is_batch_invariant_mode,
    set_batch_invariant_mode,
)
from microturn.kernels.evidence import Evidence, row_evidence, same_bits
from microturn.kernels.ops import activation, linear

pytestmark = pytest.mark.unit

Operator = Callable[[Tensor], Tensor]
BATCHES = (2, 3, 4, 5, 7, 8, 15, 16, 17, 33, 65)
FLOATS = (torch.float32, torch.bfloat16)


def noise(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def like(x: Tensor, *shape: int) -> Tensor:
    """A weight of x's dtype."""
    return noise(*shape).to(x.dtype)


def by_column(operator: Operator) -> Operator:
    """The operator on the transpose, so that rows are columns of its input."""
    return lambda x: operator(x.t()).t()


def rows_of_a_batch(x: Tensor) -> Tensor:
    return torch.bmm(x.expand(3, *x.shape), like(x, 3, x.shape[1], 40)).transpose(0, 1)


def added_batch(x: Tensor) -> Tensor:
    left = x.reshape(len(x), -1, 10)
    return torch.baddbmm(left @ left.transpose(1, 2), left, left.transpose(1, 2))


# The widths are no multiples of a vector's.
VARIANT: dict[str, tuple[Operator, int]] = {
    "linear": (lambda x: F.linear(x, like(x, 257, 300)), 300),
    "linear with a bias": (lambda x: F.linear(x, like(x, 257, 300), like(x, 257)), 300),
    "linear of three dimensions": (
        lambda x: F.linear(x.view(len(x), 3, 100), like(x, 257, 100)),
        300,
    ),
    "linear of four dimensions": (
        lambda x: F.linear(x.view(len(x), 3, 1, 100), like(x, 257, 100), like(x, 257)),
        300,
    ),
    "mm": (lambda x: torch.mm(x, like(x, 300, 64)), 300),
    "addmm": (lambda x: torch.addmm(like(x, 64), x, like(x, 300, 64), beta=0.5, alpha=2), 300),
    "matmul": (lambda x: x @ like(x, 300, 64), 300),
    "einsum": (lambda x: torch.einsum("mk,kn->mn", x, like(x, 300, 64)), 300),
    "bmm": (rows_of_a_batch, 300),
    "baddbmm": (added_batch, 300),
    "conv1d": (lambda x: F.conv1d(x.view(-1, 100, 7), like(x, 64, 100, 3)), 700),
    "sum of columns": (lambda x: x.t().contiguous().sum(0), 257),
    "mean of columns": (lambda x: x.t().contiguous().mean(0), 257),
    "softmax of columns": (by_column(lambda x: x.softmax(0)), 257),
    "log_softmax of columns": (by_column(lambda x: x.log_softmax(0)), 257),
    "silu": (F.silu, 257),
    "sigmoid": (torch.sigmoid, 257),
    "gelu of a transpose": (by_column(F.gelu), 257),
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), 257),
    "softplus": (F.softplus, 257),
    "mish": (F.mish, 257),
    "elu": (F.elu, 257),
    "exp2": (torch.exp2, 257),
    "pow": (lambda x: x.abs().pow(1.7), 257),
}
# None differs natively along its last dimension, so none is replaced.
CERTIFIED: dict[str, Operator] = {
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "rms_norm": lambda x: F.rms_norm(x, x.shape[1:]),
    "mean": lambda x: x.mean(-1),
    "cumsum": lambda x: x.cumsum(-1),
    "sort": lambda x: x.sort(-1).values,
    "topk": lambda x: x.topk(8, -1).values,
    "argmax": lambda x: x.argmax(-1),
    "exp": torch.exp,
    "log": lambda x: x.abs().log(),
    "erf": torch.erf,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "sqrt": lambda x: x.abs().sqrt(),
    "relu": F.relu,
    "glu": lambda x: F.glu(x[:, :-1] if x.shape[1] % 2 else x),
    "hardswish": F.hardswish,
    "logsigmoid": F.logsigmoid,
    "division": lambda x: x / (x.abs() + 1.1),
}


def evidence(operator: Operator, width: int, dtype: torch.dtype) -> Evidence:
    return row_evidence(operator, noise(width).to(dtype), batches=BATCHES, neighbours=("random",))


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", VARIANT)
def test_the_mode_makes_operators_invariant(name: str) -> None:
    operator, width = VARIANT[name]
    with set_batch_invariant_mode():
        for dtype in FLOATS:
            assert evidence(operator, width, dtype).is_invariant


def test_without_the_mode_most_of_them_are_not() -> None:
    """Which ones differs among processors; without any the tests above would show nothing."""
    differing = {
        name
        for name, (operator, width) in VARIANT.items()
        if not evidence(operator, width, torch.float32).is_invariant
    }
    assert {"linear", "bmm", "conv1d"} <= differing
    assert len(differing) > len(VARIANT) // 2


@pytest.mark.parametrize("name", CERTIFIED)
def test_what_the_mode_leaves_alone_is_invariant(name: str) -> None:
    for width in (100, 257):
        for dtype in FLOATS:
            assert evidence(CERTIFIED[name], width, dtype).is_invariant


def test_the_mode_covers_float64_and_float16() -> None:
    with set_batch_invariant_mode():
        for dtype in (torch.float64, torch.float16):
            for name in ("linear with a bias", "mm", "addmm", "bmm", "conv1d", "sigmoid"):
                operator, width = VARIANT[name]
                assert evidence(operator, width, dtype).is_invariant, name


@pytest.mark.parametrize("name", ["silu", "sigmoid", "gelu by tanh", "softplus", "exp2", "sum of columns"])
def test_rows_longer_than_a_thread_takes_keep_their_bits(name: str, threads: int) -> None:
    """PyTorch gives a thread some 32,768 numbers, so that long rows are cut among threads."""
    operator, _ = VARIANT[name]
    with set_batch_invariant_mode():
        found = row_evidence(operator, noise(40_001), batches=(2, 3), neighbours=("random",))
    assert found.is_invariant


def test_one_long_row_is_summed_as_among_others(threads: int) -> None:
    with set_batch_invariant_mode():
        for reduce in (torch.sum, torch.mean):
            found = row_evidence(lambda x: reduce(x, dim=-1), noise(100_000), batches=(2,))  # noqa: B023 (used at once)
            assert found.is_invariant


def test_products_keep_their_bits_with_any_number_of_threads() -> None:
    x, before = noise(37, 300), torch.get_num_threads()
    results = []
    try:
        with set_batch_invariant_mode():
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                results.append(F.linear(x, like(x, 257, 300)))
    finally:
        torch.set_num_threads(before)
    assert all(same_bits(results[0], other) for other in results)


def convolutions(x: Tensor) -> list[Tensor]:
    """One of each kind, from x of (2, 6, 20)."""
    plane = x.reshape(2, 6, 4, 5)
    return [
        F.conv1d(x, like(x, 9, 6, 3), like(x, 9), stride=2, padding=2, dilation=2),
        F.conv1d(x, like(x, 6, 1, 4), padding=3, groups=6),
        F.conv1d(x, like(x, 12, 3, 4), groups=2),
        F.conv1d(x, like(x, 4, 3, 7), groups=2),
        F.conv1d(x[0], like(x, 9, 6, 3)),
        F.conv2d(plane, like(x, 5, 6, 2, 3), like(x, 5), padding=(1, 2), stride=(1, 2)),
        F.conv_transpose1d(x, like(x, 6, 3, 3)),
    ]


def products(x: Tensor) -> list[Tensor]:
    """One of each way to write a product, from x of (2, 6, 20)."""
    flat = x.reshape(12, 20)
    return [
        torch.mv(flat, flat[0]),
        torch.addmv(flat[:, 0].contiguous(), flat, flat[0], beta=2, alpha=0.5),
        torch.addmm(flat[:, :12], flat, flat.t(), beta=0, alpha=3),
        flat[:, :12].clone().addmm_(flat, flat.t()),
        torch.mm(flat, flat.t(), out=torch.empty(0, dtype=x.dtype)),
        torch.baddbmm(x @ x.transpose(1, 2), x, x.transpose(1, 2), beta=0.5),
        torch.bmm(x, x.transpose(1, 2), out=torch.empty(0, dtype=x.dtype)),
        F.linear(flat[0], like(x, 7, 20), like(x, 7)),
        F.linear(flat, like(x, 7, 20), like(x, 7, 2)[:, 0]),
        torch.einsum("bij,bkj->bik", x, x),
    ]


def reductions(x: Tensor) -> list[Tensor]:
    return [
        x.mean(1),
        x.mean((0, -1), keepdim=True),
        x.sum((0, 2)),
        x.sum(1, keepdim=True, dtype=torch.float64),
        x.softmax(1),
        x.log_softmax(0),
        x[:, :, :0].sum(2),
    ]


def functions(x: Tensor) -> list[Tensor]:
    in_place = [F.silu(x.clone(), inplace=True), x.clone().sigmoid_(), F.elu(x.clone(), inplace=True)]
    plain = [F.silu(x), torch.sigmoid(x), F.gelu(x), F.gelu(x, approximate="tanh"), F.mish(x), F.softplus(x)]
    return [*in_place, *plain, F.celu(x, 0.7), F.selu(x), x.exp2(), x.abs().pow(1.3), x.abs().rsqrt()]


def attentions(x: Tensor) -> list[Tensor]:
    q, k = x.reshape(2, 3, 2, 20), noise(2, 3, 300, 20).to(x.dtype)
    seen = torch.ones(2, 300, dtype=torch.bool).tril(200)
    return [
        F.scaled_dot_product_attention(q, k, k),
        F.scaled_dot_product_attention(q, k, k, attn_mask=seen, scale=0.3),
        F.scaled_dot_product_attention(q, k, k, attn_mask=noise(3, 2, 300).to(x.dtype)),
        F.scaled_dot_product_attention(k, k, k, is_causal=True),
        F.scaled_dot_product_attention(q, k[:, :1], k[:, :1], enable_gqa=True),
        F.scaled_dot_product_attention(q[0], k[0], k[0]),
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("operators", [convolutions, products, reductions, functions, attentions])
def test_the_mode_keeps_values(operators: Callable[[Tensor], list[Tensor]], dtype: torch.dtype) -> None:
    x = noise(2, 6, 20).to(dtype)
    wanted = operators(x)
    with set_batch_invariant_mode():
        found = operators(x)
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 4e-2}[dtype]
    for index, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), index
        note = f"operator {index} of {operators.__name__}"
        assert torch.allclose(ours, theirs, rtol=tolerance, atol=4 * tolerance), note


def test_integers_are_left_to_exact_arithmetic() -> None:
    x = torch.arange(12).reshape(3, 4)
    with set_batch_invariant_mode():
        assert torch.equal(x @ x.t(), torch.tensor([[14, 38, 62], [38, 126, 214], [62, 214, 366]]))
        assert x.sum(0).tolist() == [12, 15, 18, 21]


def differentiable(x: Tensor) -> Tensor:
    flat = x.reshape(-1, 4)
    product = torch.addmm(flat[0], flat, flat.t()[:, :4]) + flat @ flat.t()[:, :4]
    curve = F.silu(product) + torch.sigmoid(product) + F.gelu(product) + product.softmax(0) + product.mean(0)
    window = F.conv1d(curve.reshape(1, 4, -1), curve.reshape(-1, 4, 1)[:3], groups=1)
    heads = window.reshape(1, 1, -1, 3)
    return F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)


def test_gradients_are_right_in_the_mode() -> None:
    x = noise(6, 4).double().requires_grad_()
    with set_batch_invariant_mode():
        assert torch.autograd.gradcheck(differentiable, (x,))


def test_inference_mode_gives_the_same_bits() -> None:
    x = noise(6, 4)
    with set_batch_invariant_mode():
        wanted = differentiable(x)
        with torch.inference_mode():
            assert same_bits(differentiable(x), wanted)


@pytest.mark.timeout(60)
def test_a_compiled_function_gives_the_same_bits() -> None:
    x = noise(6, 4)
    with set_batch_invariant_mode():
        compiled = torch.compile(differentiable, backend="aot_eager")
        assert same_bits(compiled(x), differentiable(x))


def test_attention_gives_a_query_the_same_bits_in_any_chunk() -> None:
    q, k, v = (noise(1, 4, 300, 16, seed=seed) for seed in range(3))

    def last(count: int, length: int) -> Tensor:
        seen = torch.ones(length, length, dtype=torch.bool).tril()[length - count :]
        part = q[:, :, length - count : length], k[:, :, :length], v[:, :, :length]
        return F.scaled_dot_product_attention(*part, attn_mask=seen)

    def pieces(size: int) -> Tensor:
        ends = [min(start + size, 300) for start in range(0, 300, size)]
        return torch.cat(
            [last(end - start, end) for start, end in zip([0, *ends], ends, strict=False)], dim=2
        )

    native = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert not same_bits(pieces(7), native), (
        "PyTorch's attention does not depend on chunks here: no need for ours"
    )
    with set_batch_invariant_mode():
        wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        for size in (1, 7, 50, 128, 129):
            assert same_bits(pieces(size), wanted), size


def test_a_query_that_sees_no_key_gets_zeros() -> None:
    x = noise(1, 1, 3, 8)
    with set_batch_invariant_mode():
        out = F.scaled_dot_product_attention(x, x, x, attn_mask=torch.zeros(3, 3, dtype=torch.bool))
    assert not out.any()


def test_an_exception_ends_the_mode() -> None:
    with pytest.raises(ZeroDivisionError), set_batch_invariant_mode():
        assert is_batch_invariant_mode()
        raise ZeroDivisionError
    assert not is_batch_invariant_mode()


def test_native_bits_are_back_after_the_mode() -> None:
    x, weight = noise(1, 300), noise(257, 300)
    native = F.linear(x, weight)
    with set_batch_invariant_mode():
        assert not same_bits(F.linear(x, weight), native)
    assert same_bits(F.linear(x, weight), native)


def test_blocks_nest_and_the_newest_decides() -> None:
    with set_batch_invariant_mode():
        with set_batch_invariant_mode():
            assert is_batch_invariant_mode()
        assert is_batch_invariant_mode()
        with set_batch_invariant_mode(False):
            assert not is_batch_invariant_mode()
        assert is_batch_invariant_mode()
    assert not is_batch_invariant_mode()


def test_the_switch_holds_outside_blocks() -> None:
    enable_batch_invariant_mode()
    try:
        assert is_batch_invariant_mode()
        with set_batch_invariant_mode(False):
            assert not is_batch_invariant_mode()
        assert is_batch_invariant_mode()
    finally:
        disable_batch_invariant_mode()
    assert not is_batch_invariant_mode()


def test_the_mode_holds_for_every_thread() -> None:
    x, weight, found = noise(1, 300), noise(257, 300), []
    with set_batch_invariant_mode():
        wanted = F.linear(x, weight)
        other = threading.Thread(target=lambda: found.append(F.linear(x, weight)))
        other.start()
        other.join()
    assert same_bits(found[0], wanted)


def test_blocks_of_two_threads_may_end_in_any_order() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with set_batch_invariant_mode():
            begun.set()
            may_end.wait()

    with set_batch_invariant_mode():
        other = threading.Thread(target=hold)
        other.start()
        begun.wait()
    assert is_batch_invariant_mode(), "the other thread's block is open"
    may_end.set()
    other.join()
    assert not is_batch_invariant_mode()


def test_our_own_operators_give_the_same_bits_in_the_mode() -> None:
    for dtype in FLOATS:
        x, weight = noise(5, 300).to(dtype), noise(257, 300).to(dtype)
        operators: list[Callable[[], Tensor]] = [
            lambda: linear.linear(x, weight),  # noqa: B023 (called within the loop)
            lambda: linear.matmul(x, weight.t()),  # noqa: B023 (as above)
            lambda: activation.silu(x),  # noqa: B023 (as above)
        ]
        for operator in operators:
            wanted = operator()
            with set_batch_invariant_mode():
                assert same_bits(operator(), wanted)
