"""Runs Python that a model has written. It runs in a sandbox and nowhere else."""

from __future__ import annotations

import ast
import io
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout

from microturn.tools import ToolRetry, tool

OUTPUT_LIMIT_CHARS = 1_000_000
"""Of what the code prints, so much is kept. Our choice."""
_NAME = "<code>"


class _Output(io.StringIO):
    """Keeps the first of what is written, and lets the rest go."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, OUTPUT_LIMIT_CHARS - self.tell())])
        return len(text)


@tool(isolation="sandbox", timeout_s=10, max_concurrency=2, spoken_filler="Let me work that out.")
async def run_python(code: str) -> str:
    """Run Python code and return what it prints, and the value of its last line.

    For calculations, dates, sorting and text that need more than one step. The code has the standard library, no
    network and no files.

    Args:
        code: The program.
    """
    output = _Output()
    try:
        with redirect_stdout(output), redirect_stderr(output):
            _run(code)
    except SystemExit:
        pass
    except BaseException as error:  # whatever the code raises is told to the model that wrote it
        if isinstance(error, MemoryError):
            raise
        raise ToolRetry(f"{output.getvalue()}{_problem(error)}"[-4_000:]) from None
    return output.getvalue() or "The code ran and printed nothing; print what you want to know."


def _run(code: str) -> None:
    tree = ast.parse(code, _NAME)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(tree, _NAME, "exec"), names)  # noqa: S102  # because this runs in a sandbox only
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), _NAME, "eval"), names)
        if value is not None:
            sys.stdout.write(f"{value!r}\n")


def _problem(error: BaseException) -> str:
    """The lines of the code that led to the error, and the error; nothing of this program."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _NAME]
    where = "".join(f"line {frame.lineno}: " for frame in frames[-1:])
    return f"{where}{''.join(traceback.format_exception_only(error)).strip()}"
