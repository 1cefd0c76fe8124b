"""What the package shows to the outside, and that folders, packaging and links agree."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import microturn

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
LAYERS = ("background_agent", "interaction_model", "kernels", "protocols", "runtime", "tools", "weights")
PUBLIC = ("microturn", *(f"microturn.{layer}" for layer in LAYERS), "microturn.runtime.testing")


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_described(name: str) -> None:
    module = import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        assert getattr(module, public) is not None


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = microturn.nothing_like_it


def test_the_packaging_lists_every_package_on_disk() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {
        "microturn." + ".".join(init.parent.relative_to(ROOT).parts)
        for layer in LAYERS
        for init in (ROOT / layer).rglob("__init__.py")
    }
    assert {"microturn", *on_disk} == set(setup["packages"])
    assert set(setup["package-dir"]) == {"microturn", *(f"microturn.{layer}" for layer in LAYERS)}


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_is_linked_under_the_import_name(layer: str) -> None:
    link = ROOT / "microturn" / layer
    assert link.is_symlink()
    assert link.resolve() == ROOT / layer


@pytest.mark.parametrize("layer", ["protocols", "tools", "weights"])
def test_a_lower_layer_loads_nothing_of_the_upper_ones(layer: str) -> None:
    code = (
        f"import sys, microturn.{layer}; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('redis', 'onnxruntime', 'torch', 'matplotlib') or m == 'microturn.runtime'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
