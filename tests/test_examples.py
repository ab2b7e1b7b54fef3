"""The scripts of docs/examples: short, listed on their page, and each ends in an assertion about its result."""

import ast
import os
import re
import runpy
import subprocess
import sys
import tempfile

import pytest
from mkdocs.exceptions import PluginError

from tests.test_docs import ROOT, hooks

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
OWN_PROCESS = {"four_devices"}
"""Examples that set the number of devices, which JAX permits only before its first computation."""


def test_each_is_on_the_page_with_its_code():
    page = (ROOT / "docs" / "examples" / "index.md").read_text()
    names = [path.stem for path in EXAMPLES]
    assert len(names) == 10
    assert sorted(hooks.EXAMPLE_MARK.findall(page)) == names
    assert sorted(re.findall(r"\]\((\w+)\.py\)", page)) == names
    assert hooks.example_block(names[0]) == f"```python\n{EXAMPLES[0].read_text().rstrip()}\n```"
    with pytest.raises(PluginError, match="no_such_example"):
        hooks.example_block("no_such_example")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_is_short_and_checks_its_result(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 60
    assert 1 <= len((ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0].splitlines()) <= 3
    checks = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    assert any(isinstance(part, ast.Compare) for check in checks for part in ast.walk(check.test))
    assert "import torch" not in source


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_runs_and_writes_only_temporary_files(path, tmp_path, monkeypatch):
    working, temporary = tmp_path / "working", tmp_path / "temporary"
    working.mkdir(), temporary.mkdir()
    monkeypatch.chdir(working)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("BAYESJAX_CACHE_DIR", "")
    if path.stem in OWN_PROCESS:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
        result = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    else:
        runpy.run_path(str(path), run_name="__main__")
    assert list(working.iterdir()) == []
