"""The README's code runs as printed, and the numbers in its tables are those of the results files."""

import contextlib
import io
import re
from pathlib import Path

from experiments import tables
from experiments.tables_of_games import generative

README = Path(__file__).parent.parent / "README.md"


def test_code_blocks_run_and_find_what_they_say(compile_fully):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert blocks
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks:
            exec(compile(block, "README.md", "exec"), {})
    nats = float(re.search(r"nats: Estimate\(value=([\d.]+)", printed.getvalue())[1])
    assert 23 < nats < 24.2, "printed in the README; an untrained network is above 40"
    error = float(re.search(r"^Estimate\(value=([\d.]+)", printed.getvalue(), re.MULTILINE)[1])
    assert error < 0.06, "a Bayesian MLP on all digits errs on 3 % of the test images; 6 % is a broken sampler"


def test_own_data_takes_fifteen_lines():
    """As the heading says: imports, blank lines and the line that prints the result aside."""
    blocks = re.findall(r"in 15 lines\n.*?```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        lines = [line for line in block.splitlines() if line and not line.startswith(("import ", "from ", "print("))]
        assert len(lines) <= 15


def test_tables_are_rendered_from_the_results_files():
    text = README.read_text()
    assert text == tables.updated(text), "run `make tables`"


def test_a_changed_number_would_be_noticed():
    text = "<!-- results: NAME -->\nold\n<!-- end -->"
    assert tables.MARK.search(text)["name"] == "NAME"
    for match in tables.MARK.finditer(README.read_text()):
        row = match[0].splitlines()[3]
        changed = README.read_text().replace(row, re.sub(r"\d(?=\D*$)", lambda d: str((int(d[0]) + 1) % 10), row))
        assert tables.updated(changed) == README.read_text()


def test_a_table_of_several_games_says_who_had_which_steps():
    """Adam's game and SGHMC's of three pairs have notes of their own, which name them; twice the same has one."""
    adam = {
        "preset": "plain", "kernel": "adam", "losses": ["r1"], "num_steps": 100, "warmup": 0.8, "num_checks": 10,
        "batch_size": 8, "num_seeds": 2, "num_chains": 1, "num_judged": 50,
    }  # fmt: skip
    runs = [
        {"config": config, "metrics": {"r1 modes": {"value": 8.0}, "r1 swing": {"value": 0.0}}}
        for config in (adam, {**adam, "preset": "sampled", "kernel": "sghmc", "num_steps": 200, "num_chains": 3})
    ]
    notes = [generative([run]).splitlines()[-1] for run in runs]
    assert notes == [
        "100 steps of 8, 2 games, 50 samples of each.",
        "160 steps of Adam and 40 of SGHMC, batches of 8, 2 games of 3 independent pairs of players, "
        "50 samples of each.",
    ]
    assert generative(runs).splitlines()[-1] == f"plain: {notes[0]} sampled: {notes[1]}"
    assert generative([runs[0], runs[0]]).splitlines()[-1] == notes[0]
