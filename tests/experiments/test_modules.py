"""What `python -m experiments.NAME` does for every module: run an experiment, or say which command does."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_modules_that_are_no_experiment_say_so():
    """Every module of experiments ends in a guard: `main`, or the line that says which command to run, exit code 2."""
    for path in (ROOT / "experiments").glob("[!_]*.py"):
        last = ast.parse(path.read_text()).body[-1]
        assert isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'", path.name
        assert re.search(r"(main|not_a_command)\(.*\)$", ast.unparse(last.body[-1])), path.name
    done = subprocess.run(
        [sys.executable, "-m", "experiments.markdown"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "experiments.markdown is not a command; run python -m experiments.tables" in done.stderr
