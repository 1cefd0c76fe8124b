"""Without PyTorch the kernels say what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

CODE = """
import sys
from importlib.abc import MetaPathFinder

class Hides(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(name)

import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else found(name, package)
sys.meta_path.insert(0, Hides())
from microturn.protocols import UnavailableError
try:
    import microturn.kernels
except UnavailableError as error:
    print(type(error).__name__, error)
"""


def test_a_missing_pytorch_is_told_with_the_extra_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("NativeExtraMissingError ")
    assert "pip install 'microturn[native]'" in done.stdout
