"""A folder that Python takes for one of installed packages, each with tools for `microturn.tools`."""

from __future__ import annotations

from pathlib import Path


def install_plugin(folder: Path, name: str, code: str, version: str = "1.0", **tools: str) -> None:
    """Install a package of one module of the same name; it is found once the folder is on the path.

    Args:
        folder: Where it is put; made where it is missing.
        name: The package and its module.
        code: The module.
        version: The package's version.
        tools: The entry points, such as `send="shop:send"`.
    """
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{name}.py").write_text(code)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    entries = "".join(f"{tool} = {target}\n" for tool, target in tools.items())
    (metadata / "entry_points.txt").write_text(f"[microturn.tools]\n{entries}")
