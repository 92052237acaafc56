"""Execute the cells of a notebook without Jupyter: `python tests/notebook.py NOTEBOOK` writes their outputs into it.

What a cell prints is kept, and its last expression: text, or a picture where it is a figure of matplotlib.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

Output = dict[str, Any]


def outputs(source: str, names: dict[str, Any], number: int) -> list[Output]:
    """Outputs of a cell, which reads and sets `names`."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    found: list[Output] = []
    if printed.getvalue():
        found.append({"output_type": "stream", "name": "stdout", "text": lines(printed.getvalue())})
    if value is not None:
        about = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
        found.append({**about, "data": shown(value)})
    return found


def shown(value: Any) -> dict[str, Any]:
    """A value by its types of media."""
    if not hasattr(value, "savefig"):
        return {"text/plain": lines(repr(value))}
    picture = io.BytesIO()
    value.savefig(picture, format="png", metadata={"Software": None})
    return {"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": ["<Figure>"]}


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def execute(path: Path) -> None:
    """Run all cells in their order, and write what they give."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        cell["execution_count"] = number
        cell["outputs"] = outputs("".join(cell["source"]), names, number)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    execute(Path(sys.argv[1]))
