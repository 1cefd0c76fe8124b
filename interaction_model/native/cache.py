"""What sessions have heard, seen and said so far: pages of keys and values, and the short convolutions' last inputs.

Sliding and global layers have pools of their own: a session gives back the pages that left the window of its sliding
layers, and keeps those of its global layers unless they were given a window too. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from microturn.interaction_model.native._errors import BadConfigError, BadEmbeddingsError
from microturn.interaction_model.native.config import AttentionKind, BackboneConfig
from microturn.kernels import LostTokensError, PoolFullError
from microturn.kernels.kv import Appended, BatchTables, CachedSession, PagePool, batch_tables


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """How much is kept for all sessions of one decoder."""

    page_tokens: int = 512
    """A multiple of 16 that divides 512 or is a multiple of it. On the CPU attention reads pages from 512 on where they
    lie, and copies smaller ones."""
    global_pages: int = 64
    """Of the global layers, for all sessions."""
    sliding_pages: int = 64
    """Of the sliding layers, for all sessions."""
    rewind_tokens: int = 256
    """How far a session can always go back."""
    global_window: int = 0
    """Tokens that global layers see, for sessions without end; 0 for all, as they were trained."""
    sinks: int = 0
    """Tokens at the beginning that global layers see beyond their window (StreamingLLM, Xiao et al., 2023)."""

    def __post_init__(self) -> None:
        if (
            self.page_tokens < 16
            or self.page_tokens % 16
            or (512 % self.page_tokens and self.page_tokens % 512)
        ):
            expected = "a multiple of 16 that divides 512 or is a multiple of it"
            raise BadConfigError("CacheConfig", "page_tokens", expected=expected, got=self.page_tokens)
        pages = (self.global_pages, self.sliding_pages)
        if min(pages) < 1:
            raise BadConfigError("CacheConfig", "pages", expected="1 or more", got=pages)
        kept = (self.rewind_tokens, self.global_window, self.sinks)
        if min(kept) < 0 or (self.sinks and not self.global_window):
            expected = "0 or more, and no sinks without a window"
            field = "rewind_tokens, global_window and sinks"
            raise BadConfigError("CacheConfig", field, expected=expected, got=kept)


class ConvolutionInputs(NamedTuple):
    """The last W - 1 inputs of one layer's short convolutions, oldest first; replaced by every call, never changed.

    S is 1 in the state of a session.
    """

    k: Tensor
    """(S, W - 1, G * D)"""
    v: Tensor
    """(S, W - 1, G * D)"""
    attended: Tensor
    """(S, W - 1, C)"""
    mixed: Tensor
    """(S, W - 1, C)"""

    @classmethod
    def joined(cls, sessions: Sequence[ConvolutionInputs]) -> ConvolutionInputs:
        """Those of several sessions."""
        if len(sessions) == 1:
            return sessions[0]
        return cls(*(torch.cat(part) for part in zip(*sessions, strict=True)))

    def split(self) -> list[ConvolutionInputs]:
        """Those of each session by itself."""
        if len(self.k) == 1:
            return [self]
        parts = (part.split(1) for part in self)
        return [ConvolutionInputs(*own) for own in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Snapshot:
    """Where a session was."""

    length: int
    inputs: tuple[ConvolutionInputs, ...]


class SessionState:
    """One sequence. Owned by its session; changed by the decoder alone."""

    def __init__(
        self, pages: Mapping[AttentionKind, CachedSession], inputs: Sequence[ConvolutionInputs]
    ) -> None:
        self.pages = dict(pages)
        self.inputs = tuple(inputs)

    @property
    def length(self) -> int:
        """Tokens so far."""
        return next(iter(self.pages.values())).length

    def snapshot(self) -> Snapshot:
        """Remember this place; copies nothing."""
        return Snapshot(self.length, self.inputs)

    def rewind(self, snapshot: Snapshot) -> None:
        """Forget every token since a snapshot of this session.

        Raises:
            LostTokensError: the session is shorter, or it gave back pages that would be needed; nothing has changed.
        """
        first = max(pages.evicted_until for pages in self.pages.values())
        if not first <= snapshot.length <= self.length:
            raise LostTokensError(length=snapshot.length, first=first, last=self.length)
        for pages in self.pages.values():
            pages.truncate(snapshot.length)
        self.inputs = snapshot.inputs

    def fork(self) -> SessionState:
        """Another session with the same past; they share pages until one of them writes."""
        return SessionState({kind: pages.fork() for kind, pages in self.pages.items()}, self.inputs)

    def close(self) -> None:
        """Give all pages back; the state is of no use then."""
        for pages in self.pages.values():
            pages.free()


class Places(NamedTuple):
    """Where one call writes and reads, for one kind of layer."""

    tables: BatchTables
    slots: Tensor
    """(T,) int64"""


class KeyValueCache:
    """The pages of all sessions of one decoder.

    Args:
        config: sizes of the network.
        sizes: how much is kept.
        dtype: of keys and values.
        device: where they lie.
    """

    def __init__(
        self, config: BackboneConfig, sizes: CacheConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._config = config
        self._sizes = sizes
        self._dtype = dtype
        self._device = device
        pages: dict[AttentionKind, int] = {"global": sizes.global_pages, "sliding": sizes.sliding_pages}
        self._pools = {
            kind: PagePool(pages[kind], sizes.page_tokens) for kind in pages if kind in config.attention
        }
        self.layers = [self._tensors(layer, pages[kind]) for layer, kind in enumerate(config.attention)]

    def open(self) -> SessionState:
        """A session without tokens. It takes no page before its first token."""
        pages = {kind: CachedSession(pool) for kind, pool in self._pools.items()}
        return SessionState(pages, [self._no_inputs(layer) for layer in range(self._config.layers)])

    def window(self, kind: AttentionKind) -> tuple[int, int]:
        """The window, 0 for none, and the sinks of a kind of layer."""
        if kind == "sliding":
            return self._config.window, 0
        return self._sizes.global_window, self._sizes.sinks

    def free_pages(self) -> dict[AttentionKind, int]:
        """Pages that no session holds, by kind of layer."""
        return {kind: pool.free_pages for kind, pool in self._pools.items()}

    def append(self, states: Sequence[SessionState], counts: Sequence[int]) -> dict[AttentionKind, Places]:
        """Make room for new tokens of several sessions, each once.

        Raises:
            BadEmbeddingsError: a session stands there twice.
            PoolFullError: there are too few free pages; every session is as it was.
        """
        if len({id(state) for state in states}) != len(states):
            raise BadEmbeddingsError("sessions", expected="each once", got=f"{len(states)} with repeats")
        lengths = [state.length for state in states]
        try:
            slots = {kind: self._append(kind, states, counts) for kind in self._pools}
        except PoolFullError:
            for state, length in zip(states, lengths, strict=True):
                for pages in state.pages.values():
                    pages.truncate(min(length, pages.length))
            raise
        return {kind: self._places(kind, states, counts, slots[kind]) for kind in slots}

    def evict(self, states: Sequence[SessionState]) -> None:
        """Give back pages that no later token can see, even after a rewind of `rewind_tokens`."""
        for state in states:
            for kind, pages in state.pages.items():
                window, sinks = self.window(kind)
                before = pages.length - self._sizes.rewind_tokens - window + 1
                if window and before > 0:
                    pages.evict(sinks, before)

    def _append(
        self, kind: AttentionKind, states: Sequence[SessionState], counts: Sequence[int]
    ) -> list[int]:
        slots: list[int] = []
        for state, count in zip(states, counts, strict=True):
            appended = state.pages[kind].append(count)
            self._copy(kind, appended)
            slots += appended.slots
        return slots

    def _copy(self, kind: AttentionKind, appended: Appended) -> None:
        if appended.copy is None:
            return
        source, target = appended.copy
        for layer, own in enumerate(self._config.attention):
            if own == kind:
                for tensor in self.layers[layer]:
                    tensor[target] = tensor[source]

    def _places(
        self,
        kind: AttentionKind,
        states: Sequence[SessionState],
        counts: Sequence[int],
        slots: Sequence[int],
    ) -> Places:
        tables = batch_tables([state.pages[kind] for state in states], counts, self._device)
        return Places(tables, torch.tensor(slots, dtype=torch.int64, device=self._device))

    def _tensors(self, layer: int, pages: int) -> tuple[Tensor, Tensor]:
        heads = self._config.heads(layer)
        shape = (pages, heads.groups, self._sizes.page_tokens, heads.head_dim)
        keys, values = (torch.zeros(shape, dtype=self._dtype, device=self._device) for _ in range(2))
        return keys, values

    def _no_inputs(self, layer: int) -> ConvolutionInputs:
        kept, keys, width = self._config.taps - 1, self._config.heads(layer).key_width, self._config.width
        return ConvolutionInputs(
            *(
                torch.zeros(1, kept, size, dtype=self._dtype, device=self._device)
                for size in (keys, keys, width, width)
            )
        )
