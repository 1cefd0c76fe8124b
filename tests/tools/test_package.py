"""The public face of the tools, and the files that travel with them."""

from __future__ import annotations

from importlib.resources import files

import pytest

from microturn import tools

pytestmark = pytest.mark.unit


def test_every_public_name_is_there_and_sorted() -> None:
    constants = [name for name in tools.__all__ if name.isupper()]
    classes = [name for name in tools.__all__ if name[0].isupper() and not name.isupper()]
    functions = [name for name in tools.__all__ if name[0].islower()]

    assert list(tools.__all__) == sorted(constants) + sorted(classes) + sorted(functions)
    assert all(hasattr(tools, name) for name in tools.__all__)


@pytest.mark.parametrize("name", ["sample_weather.json", "sample_search.json", "documents/weaving.md"])
def test_sample_data_are_found_beside_the_modules(name: str) -> None:
    assert (files("microturn.tools.builtin") / name).is_file()
