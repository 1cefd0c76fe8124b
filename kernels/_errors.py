"""Errors of the kernels.

MicroturnError
├── UserError
│   ├── BadShapeError               a tensor of the wrong shape, dtype or device was handed in
│   ├── FingerprintMismatchError    numbers were recorded under another numeric fingerprint
│   └── LostTokensError             a session was to go back to a place that it does not hold
└── UnavailableError
    ├── NativeExtraMissingError     a package of the extra `native` is not installed
    ├── NoInvariantPolicyError      no way to compute an operator gives the same bits for every batch here
    ├── NoKernelError               an operator has no kernel for this device
    ├── PeerLostError               another process of the group died, or did not answer in time
    └── PoolFullError               a session needs more pages than the pool has left
"""

from __future__ import annotations

from microturn.protocols import UnavailableError, UserError


class BadShapeError(UserError):
    """A tensor of the wrong shape, dtype or device was handed in."""

    def __init__(self, operator: str, parameter: str, *, expected: str, got: object) -> None:
        super().__init__(f"{operator}: expected {parameter} to be {expected}, got {got!r}")
        self.operator = operator
        self.parameter = parameter


class FingerprintMismatchError(UserError):
    """Numbers were recorded under another numeric fingerprint, so their bits cannot be reproduced here."""

    def __init__(self, what: str, *, recorded: str, here: str) -> None:
        super().__init__(
            f"{what} was made under the numeric fingerprint {recorded!r}, and this process has {here!r}; "
            "use the same processor kind, versions and flags, or make it anew"
        )
        self.recorded = recorded
        self.here = here


class LostTokensError(UserError):
    """A session was to go back to a place whose keys and values it no longer holds, or never held."""

    def __init__(self, *, length: int, first: int, last: int) -> None:
        super().__init__(
            f"tried to go back to {length!r} tokens; this session can go back to between {first!r} and {last!r}; "
            "begin a new session and compute it anew"
        )
        self.length = length


class NativeExtraMissingError(UnavailableError):
    """A package of the extra `native` is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"tried to load the package {package!r} and did not find it; "
            "install the native model's parts with: pip install 'microturn[native]'"
        )
        self.package = package


class NoInvariantPolicyError(UnavailableError):
    """No known way to compute an operator gives the same bits for every batch on this machine."""

    def __init__(self, operator: str, *, shape: str, tried: str) -> None:
        super().__init__(
            f"{operator} of {shape} gives other bits in other batches under every policy tried ({tried}); "
            "use the exact int8 linears, which are invariant on every processor"
        )


class NoKernelError(UnavailableError):
    """An operator has no kernel for this device."""

    def __init__(self, operator: str, *, device: str) -> None:
        super().__init__(f"{operator} has no kernel for tensors on {device!r}; use 'cpu' or 'cuda'")


class PeerLostError(UnavailableError):
    """Another process of the group died, or did not answer in time."""

    def __init__(self, doing: str, *, rank: int, world: int, cause: str) -> None:
        super().__init__(
            f"process {rank} of {world} could not {doing}, because another process of the group ended or did not "
            f"answer in time ({cause.splitlines()[0]}); start all of the group anew"
        )


class PoolFullError(UnavailableError):
    """A session needs more pages than the pool has left; nothing was changed."""

    def __init__(self, *, wanted: int, free: int, pages: int) -> None:
        super().__init__(
            f"tried to take {wanted!r} pages for keys and values and found {free!r} free of {pages!r}; "
            "free a session, evict old tokens, or make the pool larger"
        )
        self.wanted = wanted
        self.free = free
