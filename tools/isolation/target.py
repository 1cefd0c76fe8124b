"""Where a tool is found by a process that did not make it: its module, its name there, and the folders it needs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from microturn.protocols import UserError
from microturn.tools.decorator import AnyTool, Tool


@dataclass(frozen=True, slots=True)
class Target:
    """What a child process has to import."""

    module: str
    name: str
    search_path: tuple[str, ...]
    """Where modules are looked for, as here."""
    folders: tuple[Path, ...]
    """Folders of the tool's own package and of microturn, which a sandbox has to be shown."""
    places: Mapping[str, str]
    """Where the tool's top-level module is, by name; empty for one without a file."""

    @classmethod
    def of(cls, isolated: AnyTool) -> Target:
        """Find a tool.

        Raises:
            UserError: a child process could not import it.
        """
        module, name = isolated.function.__module__, isolated.function.__qualname__
        where = f"tool `{isolated.spec.name}` asks for isolation {isolated.spec.isolation!r}"
        move = "define it with `@tool` at the top level of a module that can be imported"
        if module == "__main__":
            raise UserError(
                f"{where}, but stands in the program itself, which a child process cannot import; {move}"
            )
        if "<locals>" in name:
            raise UserError(
                f"{where}, but is made inside of a function, where a child process cannot find it; {move}"
            )
        found: object = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, Tool) or found.spec.name != isolated.spec.name:
            raise UserError(f"{where}, but `{module}.{name}` is not that tool; {move}, under its own name")
        search_path = tuple(str(Path(each).resolve()) for each in sys.path)
        return cls(module, name, search_path, _folders(module), _place(module.partition(".")[0]))


def _folders(module: str) -> tuple[Path, ...]:
    own = _code_folders(module.partition(".")[0], module)
    ours = [
        folder for part in ("microturn", "microturn.tools", "microturn.protocols") for folder in _places(part)
    ]
    return tuple(dict.fromkeys([*own, *ours]))


def _place(top: str) -> dict[str, str]:
    file = getattr(sys.modules.get(top), "__file__", None)
    if file is None:
        return {}
    path = Path(file).resolve()
    return {top: str(path.parent if path.name == "__init__.py" else path)}


def _code_folders(top: str, module: str) -> list[Path]:
    """The folders of a module's whole top-level package, or the module's own file where it is in no package.

    A namespace package has no file of its own and may lie about in many places; of one, the folder of the module is
    taken.
    """
    package = sys.modules.get(top)
    if (
        package is not None
        and getattr(package, "__file__", None) is not None
        and hasattr(package, "__path__")
    ):
        return _places(top)
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return []
    return [Path(file).resolve() if module == top else Path(file).resolve().parent]


def _places(name: str) -> list[Path]:
    module: ModuleType | None = sys.modules.get(name)
    return [Path(place).resolve() for place in getattr(module, "__path__", ())]
