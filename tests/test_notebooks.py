"""Every notebook runs from top to bottom in a fresh kernel, anywhere, and is committed with its outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shows(cell) -> list[str]:
    """Kinds of a cell's outputs, less what warnings write to standard error."""
    return sorted({output.output_type for output in cell.outputs if output.get("name") != "stderr"})


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_as_it_ran(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "not run from top to bottom"
    for cell in cells:
        assert shows(cell), f"a code cell without output: {cell.source[:60]!r}"
        assert "error" not in shows(cell)
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs), "no figure"
    assert "assert " in cells[-1].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_in_a_fresh_kernel(path, tmp_path):
    notebook = read(path)
    committed = [shows(cell) for cell in code_cells(notebook)]
    folder = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    assert [shows(cell) for cell in code_cells(notebook)] == committed
