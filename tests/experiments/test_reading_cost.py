"""The number of lines that one reads to understand an experiment: its import closure below `experiments/`.

python -m tests.experiments.test_reading_cost        prints the closure of every experiment
"""

import ast
import functools
from pathlib import Path

import pytest

from experiments.__main__ import experiments

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "experiments").rglob("*.py"))
}
LINES = {module: len(path.read_text().splitlines()) for module, path in FILES.items()}
MOST = {"gan": (1910, 1015), "vae": (1500, 650), "bayes_by_backprop": (1500, 650)}
"""Lines in all, and without the harness."""
LINES_PER_EXPERIMENT = 403


@functools.cache
def imported(module: str) -> set[str]:
    """The modules of `experiments` that a module imports, with the packages around them."""
    names = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in names]
    return {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)} & set(FILES) - {module}


def closure(name: str) -> set[str]:
    """An experiment and whatever it imports, directly or not."""
    seen: set[str] = set()
    left = [f"experiments.{name}" if f"experiments.{name}.__main__" not in FILES else f"experiments.{name}.__main__"]
    while left:
        if (module := left.pop()) not in seen:
            seen.add(module)
            left += imported(module)
    return seen


def cost(name: str) -> tuple[int, int]:
    """Lines of the closure of an experiment, in all and without the harness."""
    modules = closure(name)
    return sum(LINES[each] for each in modules), sum(LINES[each] for each in modules if ".harness" not in each)


@pytest.mark.parametrize("name", MOST)
def test_an_experiment_is_read_quickly(name):
    """The closure of the experiments that readers begin with stays short."""
    whole, own = cost(name)
    print(f"experiments.{name}: {whole} lines, {own} without the harness")
    assert (whole <= MOST[name][0]) and (own <= MOST[name][1])


def test_the_whole_is_short():
    """The lines of all experiments, shared files and harness together, for each experiment; and the harness alone."""
    harness = sum(lines for module, lines in LINES.items() if ".harness" in module)
    print(f"experiments: {sum(LINES.values())} lines, of which the harness has {harness}")
    assert sum(LINES.values()) <= LINES_PER_EXPERIMENT * len(experiments()) and harness <= 900


def test_every_file_is_read_by_two_or_has_a_reason():
    """A file that only one other imports, outside the harness, is named with its reason in experiments/README.md."""
    reasons = (ROOT / "experiments" / "README.md").read_text()
    commands = {f"experiments.{name}" for name in [*experiments(), "sample"]} | {
        f"experiments.{name}.__main__" for name in experiments()
    }
    for module, path in FILES.items():
        if module in commands or path.stem in ("__init__", "__main__") or ".harness" in module:
            continue
        readers = [each for each in FILES if module in imported(each)]
        assert len(readers) >= 2 or f"`{path.relative_to(ROOT / 'experiments')}`" in reasons, (module, readers)


def test_the_closure_is_complete():
    """The harness, the games and what these import belong to the closure of `gan`; the other experiments do not."""
    modules = closure("gan")
    assert {"experiments.gan", "experiments.shared.games", "experiments.harness.report"} <= modules
    assert "experiments.vae" not in modules


if __name__ == "__main__":
    for experiment in experiments():
        print(f"{experiment:32} {cost(experiment)[0]:6} lines, {cost(experiment)[1]:5} without the harness")
