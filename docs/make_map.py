"""Writes docs/map.md: every file of the project with one line on what it is, taken from the file itself.

    python docs/make_map.py

A Python file is described by the first line of its docstring, a page by its heading, other text by its first
comment. Files that cannot speak for themselves are described here. `tests/test_docs.py` compares the map with the
tree.
"""

from __future__ import annotations

import ast
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAP = ROOT / "docs" / "map.md"
DESCRIPTIONS = {
    ".gitignore": "What is made here and not kept.",
    "LICENSE": "Apache License 2.0.",
    "NOTICE": "Models and packages that are used, and their licences.",
    "requirements.lock": "Every dependency pinned by version and hash; made by `make lock`.",
    "requirements-native.in": "From which `requirements-native.lock` is made.",
    "requirements-native.lock": "What the native model and its kernels need beside PyTorch, pinned; made by `make lock`.",
    "pyproject.toml": "Packaging, dependencies, and the settings of the checks.",
    ".pre-commit-config.yaml": "The checks before a commit.",
    "microturn/py.typed": "Says that the package is typed.",
    "examples/conversation/*.flac": "Recordings of a person's side of a conversation.",
    "examples/conversation/*.labels.json": "When each line and word of a recording is said.",
    "tests/protocols/golden/*.json": "The messages as they are written, to see that they stay readable.",
    "interaction_model/cascade/intents.json": "Examples of each intent, from which the router judges.",
    "interaction_model/cascade/replies.json": "Short replies for each intent.",
    "interaction_model/native/weights/*.safetensors": "The trained weights of the native model.",
    "interaction_model/cascade/turn_end.json": "Weights of the judge of turn ends.",
    "tools/builtin/sample_*.json": "Sample data, for use without a network.",
    "tests/benchmarks/turns/*.flac": "Turns of the turn set, one recording each.",
    "examples/documents/sauna-rules.txt": "A plain text among the sample documents.",
    "tests/benchmarks/turn_end/*.txt": "Texts on which the judge of turn ends is fitted and tested.",
    "tests/*.json": "Data of the tests.",
    "docs/results/*.csv": "Figures of the benchmarks, with the machine in every row.",
    "docs/pictures/*.svg": "Pictures of the command line; made by `docs/make_pictures.py`.",
    "deploy/grafana/dashboards/microturn.json": "The dashboard; made by `deploy/make_dashboard.py`.",
}
"""Files, or patterns of files, that have no words of their own. Those of one pattern share a line."""


def files() -> list[str]:
    """Paths of the project's files relative to its root, sorted; what git ignores is left out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return sorted(name for name in set(listed) if (ROOT / name).is_file() and not (ROOT / name).is_symlink())


def described(name: str) -> str:
    """One line on what a file is; empty where it does not say."""
    path = ROOT / name
    if path.suffix == ".py":
        own = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]
        tested = path.parent.relative_to(ROOT / "tests") / path.name[5:] if path.name[:5] == "test_" else None
        return own or (f"Tests of `{tested}`." if tested else "")
    if path.suffix not in (".md", ".lua", ".toml", ".txt", ".yml", "") or path.name == "LICENSE":
        return ""
    for line in path.read_text("utf-8").splitlines():
        text = line.strip().lstrip("#-").strip()
        if text and not line.startswith("#!") and line.startswith(("#", "--")):
            return text
    return ""


def pattern_of(name: str) -> str | None:
    """The pattern in `DESCRIPTIONS` that a file falls under."""
    return next((pattern for pattern in DESCRIPTIONS if fnmatch(name, pattern)), None)


def lines(names: Iterable[str]) -> list[str]:
    """The entries of one folder."""
    entries: dict[str, str] = {}
    for name in names:
        pattern = pattern_of(name)
        if pattern is not None and "*" in pattern:
            entries.setdefault(f"`{Path(pattern).name}`", DESCRIPTIONS[pattern])
            continue
        text = DESCRIPTIONS[pattern] if pattern is not None else described(name)
        entries[f"[{Path(name).name}](../{name})"] = text or "(says nothing of itself)"
    return [f"- {entry}: {text}" for entry, text in entries.items()]


def render() -> str:
    """The whole page."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in files():
        folders[str(Path(name).parent)].append(name)
    page = ["# Map of files", "", "Made by `python docs/make_map.py` from the first line of each file.", ""]
    for folder in sorted(folders, key=lambda each: (each != ".", each)):
        page += [f"## {'The root' if folder == '.' else folder + '/'}", "", *lines(folders[folder]), ""]
    return "\n".join(page)


if __name__ == "__main__":
    MAP.write_text(render(), "utf-8")
