"""Every notebook runs from top to bottom in a fresh kernel, anywhere, and is committed with its outputs.

A run takes one to two minutes, so it is among the slow tests; the fast ones see to it that the names still exist.
"""

import ast
import importlib
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


def unknown_names(source: str) -> list[str]:
    """Names imported from bayesjax, and attributes of its modules, that do not exist."""
    nodes, modules, missing = list(ast.walk(ast.parse(source))), {}, []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("bayesjax"):
            for alias in node.names:
                found = getattr(importlib.import_module(node.module), alias.name, None)
                modules[alias.asname or alias.name] = found
                missing += [f"{node.module}.{alias.name}"] if found is None else []
    uses = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    of_modules = [(node.value.id, node.attr) for node in uses if node.value.id in modules]
    return missing + [f"{name}.{attribute}" for name, attribute in of_modules if not hasattr(modules[name], attribute)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_names_exist(path):
    sources = [cell.source for cell in code_cells(read(path))]
    imports = sources[0]
    assert "bayesjax" in imports and unknown_names("\n".join(sources)) == []
    assert unknown_names(imports + "\nkernels.no_such_kernel") == ["kernels.no_such_kernel"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_in_a_fresh_kernel(path, tmp_path):
    notebook = read(path)
    committed = [shows(cell) for cell in code_cells(notebook)]
    folder = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    assert [shows(cell) for cell in code_cells(notebook)] == committed
