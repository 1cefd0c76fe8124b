"""The one place that notices that PyTorch is not installed; every other module imports it plainly."""

from __future__ import annotations

from importlib.util import find_spec

from microturn.kernels._errors import NativeExtraMissingError

if find_spec("torch") is None:
    raise NativeExtraMissingError("torch")
