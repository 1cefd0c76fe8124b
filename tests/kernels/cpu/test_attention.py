"""Attention over pages on the CPU: right by the oracle, and the same bits however a session was cut, placed or shared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from microturn.kernels import BadShapeError, reference_attention
from microturn.kernels.evidence import same_bits
from microturn.kernels.kv import CachedSession, PagePool, batch_tables
from microturn.kernels.ops.attention import attention
from microturn.kernels.spec import CPU_SPLIT

pytestmark = pytest.mark.unit

LONG = os.environ.get("MICROTURN_LONG_TESTS") == "1"
SPLIT = CPU_SPLIT.keys
CHUNKS = (1, 2, 5, 7, 30, 50, 64, 100)
TOLERANCES = {torch.float32: 4e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@dataclass(frozen=True)
class Sight:
    """What a layer lets its queries see."""

    window: int = 0
    sinks: int = 0
    reach: int = 0


ALL = Sight()
WINDOW = Sight(window=130, sinks=4)
BIASED = Sight(reach=600)
BIASED_WINDOW = Sight(window=300, sinks=20, reach=300)
NEAR_WINDOW = Sight(window=128, reach=128)
SIGHTS = (ALL, WINDOW, BIASED, BIASED_WINDOW, NEAR_WINDOW)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Queries, keys and values of a whole session."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None

    def __len__(self) -> int:
        return len(self.q)


def tokens(
    count: int,
    *,
    seed: int = 0,
    sight: Sight = ALL,
    dtype: torch.dtype = torch.float32,
    heads: int = 4,
    groups: int = 1,
    head_dim: int = 32,
) -> Tokens:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    q = drawn(count, heads, head_dim)
    k, v = drawn(count, groups, head_dim), drawn(count, groups, head_dim)
    return Tokens(q, k, v, drawn(count, heads, sight.reach) if sight.reach else None)


@dataclass
class Cache:
    """A pool whose every slot is NaN until a token is written there, and the sessions on it."""

    like: Tokens
    page: int
    pages: int
    sight: Sight = ALL
    keys: Tensor = field(init=False)
    values: Tensor = field(init=False)
    pool: PagePool = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.pages, self.like.k.shape[1], self.page, self.like.k.shape[2])
        self.keys = torch.full(shape, torch.nan, dtype=self.like.k.dtype)
        self.values = torch.full(shape, torch.nan, dtype=self.like.k.dtype)
        self.pool = PagePool(self.pages, self.page)

    def step(self, parts: Sequence[tuple[CachedSession, Tokens, int]]) -> list[Tensor]:
        """Append so many tokens to each session, compute all in one call, and return each session's."""
        begins = [session.length for session, _, _ in parts]
        for session, source, count in parts:
            self.write(session, source, count)
        counts = [count for _, _, count in parts]
        tables = batch_tables([session for session, _, _ in parts], counts)
        rows = [slice(begin, begin + count) for begin, count in zip(begins, counts, strict=True)]
        sources = [source for _, source, _ in parts]
        biases = [
            source.bias[row] for source, row in zip(sources, rows, strict=True) if source.bias is not None
        ]
        out = attention(
            torch.cat([source.q[row] for source, row in zip(sources, rows, strict=True)]),
            self.keys,
            self.values,
            tables.page_table,
            tables.starts,
            tables.lengths,
            scale=self.like.q.shape[2] ** -0.5,
            window=self.sight.window,
            sinks=self.sight.sinks,
            distance_bias=torch.cat(biases) if biases else None,
        )
        return list(torch.split(out, counts))

    def write(self, session: CachedSession, source: Tokens, count: int) -> None:
        begin = session.length
        appended = session.append(count)
        if appended.copy is not None:
            shared, own = appended.copy
            self.keys[own], self.values[own] = self.keys[shared], self.values[shared]
        slots = torch.tensor(appended.slots, dtype=torch.int64)
        places = slots // self.page, slice(None), slots % self.page
        self.keys[places] = source.k[begin : begin + count]
        self.values[places] = source.v[begin : begin + count]

    def poison_free_pages(self) -> None:
        """What no session holds becomes NaN."""
        for page in range(self.pages):
            if not self.pool.holders(page):
                self.keys[page], self.values[page] = torch.nan, torch.nan


def cache_for(source: Tokens, *, page: int = 64, sight: Sight = ALL, sessions: int = 1) -> Cache:
    return Cache(source, page, (-(-len(source) // page) + 1) * sessions, sight)


def in_chunks(source: Tokens, chunk: int, *, begin: int = 0, page: int = 64, sight: Sight = ALL) -> Tensor:
    """The outputs from position `begin` on of a session that is computed `chunk` tokens at a time."""
    cache = cache_for(source, page=page, sight=sight)
    session = CachedSession(cache.pool)
    cache.write(session, source, begin)
    found = []
    while session.length < len(source):
        found += cache.step([(session, source, min(chunk, len(source) - session.length))])
    return torch.cat(found)


def in_one(source: Tokens, *, page: int = 64, sight: Sight = ALL) -> Tensor:
    return in_chunks(source, len(source), page=page, sight=sight)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("dtype", "page"),
    [
        (torch.float32, 16),
        (torch.float32, 512),
        (torch.float32, 1024),
        (torch.bfloat16, 512),
        (torch.float16, 64),
    ],
)
@pytest.mark.parametrize("sight", SIGHTS)
def test_it_computes_what_the_oracle_computes(dtype: torch.dtype, page: int, sight: Sight) -> None:
    sources = [
        tokens(count, seed=count, sight=sight, dtype=dtype, groups=2, head_dim=24) for count in (1030, 513, 9)
    ]
    cache = Cache(sources[0], page, 2 * 1040 // page + 40, sight)
    sessions = [CachedSession(cache.pool) for _ in sources]
    for session, source, new in zip(sessions, sources, (12, 3, 9), strict=True):
        cache.write(session, source, len(source) - new)
    found = cache.step(list(zip(sessions, sources, (12, 3, 9), strict=True)))
    for session, source, out in zip(sessions, sources, found, strict=True):
        tables = batch_tables([session], [len(out)])
        expected = reference_attention.attention(
            source.q[-len(out) :],
            cache.keys,
            cache.values,
            tables.page_table,
            tables.starts,
            tables.lengths,
            scale=24**-0.5,
            window=sight.window,
            sinks=sight.sinks,
            distance_bias=None if source.bias is None else source.bias[-len(out) :],
        )
        torch.testing.assert_close(out.double(), expected, atol=TOLERANCES[dtype], rtol=0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sight", SIGHTS)
def test_chunks_of_any_size_give_the_bits_of_one_call(dtype: torch.dtype, sight: Sight) -> None:
    source, begin = (
        (tokens(1600, sight=sight, dtype=dtype), 0) if LONG else (tokens(560, sight=sight, dtype=dtype), 440)
    )
    whole = in_one(source, sight=sight)
    assert not whole.isnan().any()
    for chunk in CHUNKS:
        assert same_bits(in_chunks(source, chunk, begin=begin, sight=sight), whole[begin:]), (
            f"chunks of {chunk}"
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "groups", "head_dim"), [(1, 1, 64), (2, 2, 128), (8, 2, 80), (6, 1, 16)])
def test_every_shape_of_heads_gives_one_token_the_bits_of_one_call(
    heads: int, groups: int, head_dim: int, dtype: torch.dtype
) -> None:
    source = tokens(530, heads=heads, groups=groups, head_dim=head_dim, dtype=dtype)
    assert same_bits(in_chunks(source, 1, begin=490), in_one(source)[490:])


@pytest.mark.parametrize("page", [16, 32, 512, 1024, 2048])
@pytest.mark.parametrize("sight", [BIASED_WINDOW, NEAR_WINDOW])
def test_the_page_size_changes_no_bits(page: int, sight: Sight) -> None:
    source = tokens(1100, sight=sight, groups=2)
    assert same_bits(in_chunks(source, 50, page=page, sight=sight), in_one(source, page=64, sight=sight))


@pytest.mark.parametrize("sight", [ALL, BIASED_WINDOW, NEAR_WINDOW])
@pytest.mark.parametrize("edge", [SPLIT, 2 * SPLIT, SPLIT + 128, SPLIT + 130, SPLIT + 300, 64, 192])
def test_tokens_around_every_edge_have_the_bits_of_one_call(sight: Sight, edge: int) -> None:
    source = tokens(edge + 3, sight=sight, dtype=torch.bfloat16)
    whole = in_one(source, sight=sight)
    for last in range(edge - 2, edge + 3):
        cache = cache_for(source, sight=sight)
        session = CachedSession(cache.pool)
        cache.write(session, source, last)
        (alone,) = cache.step([(session, source, 1)])
        assert same_bits(alone[0], whole[last]), f"position {last}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("page", [32, 512])
def test_other_sessions_in_the_call_change_no_bits(dtype: torch.dtype, page: int) -> None:
    counts = (530, 40, 513, 90)
    sources = [tokens(count, seed=count, dtype=dtype, groups=2) for count in counts]
    wholes = [in_one(source) for source in sources]
    cache = cache_for(sources[0], page=page, sessions=4)
    sessions = [CachedSession(cache.pool) for _ in sources]
    cache.write(sessions[0], sources[0], 350)
    cache.write(sessions[2], sources[2], 400)
    order = torch.Generator().manual_seed(5)
    while any(session.length < len(source) for session, source in zip(sessions, sources, strict=True)):
        parts = []
        for index in torch.randperm(4, generator=order).tolist():
            left = len(sources[index]) - sessions[index].length
            new = min(left, int(torch.randint(0, 40, (), generator=order)))
            parts.append((sessions[index], sources[index], new))
        begins = [session.length for session, _, _ in parts]
        for (_, source, new), begin, out in zip(parts, begins, cache.step(parts), strict=True):
            whole = wholes[sources.index(source)]
            assert same_bits(out, whole[begin : begin + new])


@pytest.mark.parametrize("page", [32, 512])
def test_a_session_that_was_rewound_gives_the_bits_of_one_that_was_not(page: int) -> None:
    source, other = tokens(560), tokens(560, seed=1)
    whole = in_one(source)
    cache = cache_for(source, page=page)
    session = CachedSession(cache.pool)
    for kept, wrong in ((500, 60), (512, 1), (530, 5)):
        cache.write(session, source, kept - session.length)
        cache.step([(session, other, wrong)])
        session.truncate(kept)
    (rest,) = cache.step([(session, source, 30)])
    assert same_bits(rest, whole[530:])


@pytest.mark.parametrize("page", [32, 512])
def test_a_shared_beginning_gives_the_bits_of_a_cold_one(page: int) -> None:
    source, other = tokens(560), tokens(560, seed=1)
    cache = cache_for(source, page=page, sessions=3)
    parent = CachedSession(cache.pool)
    cache.step([(parent, source, 517)])
    child = parent.fork()
    cache.step([(child, other, 43)])
    (rest,) = cache.step([(parent, source, 43)])
    assert same_bits(rest, in_one(source)[517:])
    q, k, v = (torch.cat((a[:517], b[517:])) for a, b in zip(_parts(source), _parts(other), strict=True))
    mixed = Tokens(q, k, v, None)
    child.truncate(517)
    (rest,) = cache.step([(child, mixed, 43)])
    assert same_bits(rest, in_one(mixed)[517:])


def _parts(source: Tokens) -> tuple[Tensor, Tensor, Tensor]:
    return source.q, source.k, source.v


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_the_number_of_threads_changes_no_bits(dtype: torch.dtype, head_dim: int) -> None:
    source = tokens(550, dtype=dtype, head_dim=head_dim)
    found = []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        found += [in_one(source)[500:], *(in_chunks(source, chunk, begin=500) for chunk in (1, 50))]
    assert all(same_bits(out, found[0]) for out in found)


@pytest.mark.parametrize("page", [16, 64, 512])
def test_evicted_pages_may_hold_anything(page: int) -> None:
    sight = Sight(window=100, sinks=20)
    source = tokens(1200, sight=sight)
    whole = in_one(source, sight=sight)
    cache = cache_for(source, page=page, sight=sight)
    session = CachedSession(cache.pool)
    returned = 0
    while session.length < len(source):
        begin = session.length
        (out,) = cache.step([(session, source, 40)])
        assert same_bits(out, whole[begin : begin + 40])
        returned += session.evict(sight.sinks, max(0, session.length - sight.window + 1))
        cache.poison_free_pages()
    assert returned >= (1200 - 100) // page - 20 // page - 2


def test_the_place_of_pages_in_the_pool_changes_no_bits() -> None:
    source = tokens(5 * SPLIT + 3, groups=2)
    for page, order in ((SPLIT, [5, 0, 3, 2, 1, 4]), (SPLIT, [0, 2, 4, 5, 6, 7]), (2 * SPLIT, [2, 1, 0])):
        cache = Cache(source, page, 8)
        session = CachedSession(cache.pool)
        cache.write(session, source, len(source))
        keys, values = torch.full_like(cache.keys, torch.nan), torch.full_like(cache.values, torch.nan)
        keys[order], values[order] = cache.keys[: len(order)], cache.values[: len(order)]
        tables = batch_tables([session], [10])
        one, other = (
            attention(source.q[-10:], *pool, table, tables.starts, tables.lengths, scale=0.2)
            for pool, table in (
                ((cache.keys, cache.values), tables.page_table),
                ((keys, values), torch.tensor([order], dtype=torch.int32)),
            )
        )
        assert same_bits(one, other)


def test_sessions_without_new_tokens_are_passed_over() -> None:
    source = tokens(50)
    cache = cache_for(source, sessions=3)
    sessions = [CachedSession(cache.pool) for _ in range(3)]
    found = cache.step([(sessions[0], source, 0), (sessions[1], source, 50), (sessions[2], source, 0)])
    assert [len(out) for out in found] == [0, 50, 0]
    assert same_bits(found[1], in_one(source))
    assert cache.step([(session, source, 0) for session in sessions[:1]])[0].shape == (0, 4, 32)


def test_the_default_dtype_of_the_process_changes_no_bits() -> None:
    source = tokens(537, sight=BIASED_WINDOW)
    whole = in_one(source, sight=BIASED_WINDOW)
    try:
        torch.set_default_dtype(torch.bfloat16)
        found = in_chunks(source, 107, sight=BIASED_WINDOW)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same_bits(found, whole)


def test_a_row_that_is_not_a_number_spoils_no_other() -> None:
    source = tokens(540)
    whole = in_one(source)
    source.q[520] = torch.nan
    spoilt = in_one(source)
    assert spoilt[520].isnan().all()
    assert same_bits(spoilt[:520], whole[:520]) and same_bits(spoilt[521:], whole[521:])


@pytest.mark.timeout(120)
@settings(max_examples=60 if LONG else 8, deadline=None)
@given(st.data())
def test_any_schedule_of_sessions_chunks_and_rewinds_gives_the_bits_of_one_call(data: st.DataObject) -> None:
    sight = data.draw(st.sampled_from(SIGHTS))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
    page = data.draw(st.sampled_from([16, 64, 512]))
    sources = [tokens(count, seed=count, sight=sight, dtype=dtype) for count in (700, 300, 60)]
    wholes = [in_one(source, sight=sight) for source in sources]
    cache = cache_for(sources[0], page=page, sight=sight, sessions=3)
    sessions = [CachedSession(cache.pool) for _ in sources]
    cache.write(sessions[0], sources[0], data.draw(st.integers(0, 620)))
    for _ in range(data.draw(st.integers(1, 8))):
        chosen = data.draw(st.permutations(range(3)))[: data.draw(st.integers(1, 3))]
        parts = []
        for index in chosen:
            left = len(sources[index]) - sessions[index].length
            parts.append((sessions[index], sources[index], data.draw(st.integers(0, min(left, 70)))))
        begins = [sessions[index].length for index in chosen]
        for index, begin, out in zip(chosen, begins, cache.step(parts), strict=True):
            assert same_bits(out, wholes[index][begin : begin + len(out)])
        back = data.draw(st.sampled_from(chosen))
        sessions[back].truncate(
            data.draw(st.integers(max(0, sessions[back].length - 50), sessions[back].length))
        )


def test_pytorchs_own_attention_differs_so_these_comparisons_can_fail() -> None:
    source = tokens(200, heads=1)
    q, k, v = (part.transpose(0, 1).unsqueeze(0) for part in _parts(source))
    whole = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    differing = sum(
        not same_bits(
            F.scaled_dot_product_attention(q[:, :, n : n + 1], k[:, :, : n + 1], v[:, :, : n + 1])[0, 0, 0],
            whole[0, 0, n],
        )
        for n in range(200)
    )
    assert differing > 20


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_it_agrees_with_the_attention_of_inkling() -> None:
    inkling = pytest.importorskip("transformers.models.inkling.modeling_inkling")
    sight = Sight(window=40, reach=40)
    source = tokens(100, sight=sight, heads=4, groups=2)
    assert source.bias is not None

    class Module(torch.nn.Module):
        num_key_value_groups = 2

    relative = inkling.InklingRelativeLogits(40, 40)
    with torch.no_grad():
        relative.proj.copy_(torch.eye(40))
        positions = torch.arange(100)
        bias = relative(source.bias.unsqueeze(0), positions, positions)
    distance = positions.unsqueeze(1) - positions
    mask = torch.zeros(100, 100).masked_fill_((distance < 0) | (distance >= 40), -torch.inf)
    q, k, v = (part.transpose(0, 1).unsqueeze(0) for part in _parts(source))
    expected, _ = inkling.eager_attention_forward(
        Module(), q, k, v, mask, scaling=32**-0.5, position_bias=bias
    )
    torch.testing.assert_close(in_one(source, sight=sight), expected[0], atol=2e-6, rtol=0)


def test_the_registered_operator_matches_its_schema_and_its_fake() -> None:
    source = tokens(20)
    cache = cache_for(source)
    session = CachedSession(cache.pool)
    cache.write(session, source, 20)
    tables = batch_tables([session], [5])
    arguments = (
        source.q[-5:],
        cache.keys.nan_to_num(),
        cache.values.nan_to_num(),
        tables.page_table,
        tables.starts,
        tables.lengths,
    )
    torch.library.opcheck(
        torch.ops.microturn.attention.default,
        (*arguments, 0.1, 0, 0, None),
        test_utils=("test_schema", "test_faketensor"),
    )


def _call(**changes: object) -> Tensor:
    arguments: dict[str, object] = {
        "q": torch.zeros(3, 4, 32),
        "keys": torch.zeros(2, 2, 16, 32),
        "values": torch.zeros(2, 2, 16, 32),
        "page_table": torch.tensor([[0, 1]], dtype=torch.int32),
        "starts": torch.tensor([0, 3], dtype=torch.int32),
        "lengths": torch.tensor([20], dtype=torch.int32),
        "scale": 1.0,
    }
    result: Tensor = attention(**(arguments | changes))  # type: ignore[arg-type] # wrong arguments are the subject
    return result


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"q": torch.zeros(3, 3, 32)}, "multiple of G"),
        ({"q": torch.zeros(3, 4, 16)}, "q"),
        ({"q": torch.zeros(3, 4, 32, dtype=torch.bfloat16)}, "as the keys"),
        ({"values": torch.zeros(2, 2, 16, 31)}, "values"),
        ({"keys": torch.zeros(2, 2, 48, 32), "values": torch.zeros(2, 2, 48, 32)}, "page"),
        ({"keys": torch.zeros(2, 16, 2, 32).transpose(1, 2)}, "contiguous"),
        ({"page_table": torch.tensor([0, 1], dtype=torch.int32)}, "page_table"),
        ({"lengths": torch.tensor([20])}, "int32"),
        ({"starts": torch.tensor([0, 2], dtype=torch.int32)}, "rising from 0 to 3"),
        ({"lengths": torch.tensor([2], dtype=torch.int32)}, "at least its 3 new tokens"),
        ({"page_table": torch.tensor([[0, -1]], dtype=torch.int32)}, r"page_table\[0, 1\]"),
        ({"page_table": torch.tensor([[2, 1]], dtype=torch.int32)}, r"page_table\[0, 0\]"),
        ({"lengths": torch.tensor([33], dtype=torch.int32)}, r"page_table\[0, 2\]"),
        ({"window": -1}, "window"),
        ({"distance_bias": torch.zeros(3, 2, 8)}, "distance_bias"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes: dict[str, object], word: str) -> None:
    assert _call().shape == (3, 4, 32)
    with pytest.raises(BadShapeError, match=word):
        _call(**changes)


EMULATED = (
    {"MKL_CBWR": "COMPATIBLE"},
    {"MKL_CBWR": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2"},
)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("flags", EMULATED if LONG else EMULATED[:1])
def test_older_processors_as_the_libraries_emulate_them_give_one_bit_class(flags: dict[str, str]) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
from test_attention import in_chunks, in_one, same_bits, tokens
for dtype in (torch.float32, torch.bfloat16):
    source = tokens(530, dtype=dtype, head_dim=64)
    torch.set_num_threads(1)
    whole = in_one(source)
    for threads in (1, 3):
        torch.set_num_threads(threads)
        for chunk in (1, 7, 50):
            assert same_bits(in_chunks(source, chunk, begin=430), whole[430:]), (dtype, threads, chunk)
"""
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"} | flags
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
