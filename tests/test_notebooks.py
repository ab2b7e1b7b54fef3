"""Every notebook runs from top to bottom in a fresh kernel, in any folder, and is committed with its outputs.

A run takes one to two minutes, so it is among the slow tests. The fast tests check that the names still exist.
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
    """The types of a cell's outputs, without standard error, to which warnings are written."""
    return sorted({output.output_type for output in cell.outputs if output.get("name") != "stderr"})


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_as_it_ran(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "not run from top to bottom"
    for cell in cells:
        assert shows(cell), f"a code cell has no output: {cell.source[:60]!r}"
        assert "error" not in shows(cell)
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs), "no figure"
    assert "assert " in cells[-1].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_opens_in_colab(path):
    """The title cell links to Colab, and the first code cell installs bayesjax on Colab alone."""
    notebook = read(path)
    title, install = notebook.cells[:2]
    address = f"https://colab.research.google.com/github/bayesjax/bayesjax/blob/main/notebooks/{path.name}"
    assert title.source.startswith("# ") and f"]({address})" in title.source
    condition, installation = next(
        (node.test, node.body) for node in ast.walk(ast.parse(install.source)) if isinstance(node, ast.If)
    )
    assert ast.unparse(condition) == "'google.colab' in sys.modules"
    assert "'pip', 'install'" in ast.unparse(installation[0]) and "'bayesjax'" in ast.unparse(installation[0])
    assert unknown_names(install.source) == [] and len(installation) == 1


def unknown_names(source: str) -> list[str]:
    """Names imported from bayesjax, and attributes of its modules, that do not exist."""
    nodes, modules, missing = list(ast.walk(ast.parse(source))), {}, []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("bayesjax"):
            for alias in node.names:
                value = getattr(importlib.import_module(node.module), alias.name, None)
                modules[alias.asname or alias.name] = value
                missing += [f"{node.module}.{alias.name}"] if value is None else []
    uses = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    attributes = [(node.value.id, node.attr) for node in uses if node.value.id in modules]
    return missing + [f"{name}.{attribute}" for name, attribute in attributes if not hasattr(modules[name], attribute)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_names_exist(path):
    sources = [cell.source for cell in code_cells(read(path))]
    imports = sources[1]
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
