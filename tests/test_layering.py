"""The import rules of the design, read from the source with `ast`; a planted violation shows that each is enforced."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = sorted((ROOT / "bayesjax").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))
MAX_LINES = 350
LAUNCHER = "bayesjax.training.launch"
"""It tells the processes that it starts who they are through their environment, as JAX expects."""

MIDDLE = ("models", "objectives", "posteriors", "kernels")
TOP = ("training", "evaluation", "data", "plots")
MAY_IMPORT = {
    "types": set(),
    "__main__": {"data"},
    "atomic": set(),
    "checks": {"types"},
    "noise": {"types", "checks"},
    "tree": {"types", "noise"},
    "axes": {"types"},
    "divergences": {"types", "tree"},
    "distributions": {"types"},
    "adapters": {"types", "checks", "tree"},
    **{name: {"types", "checks", "noise", "tree", "axes", "divergences", "distributions"} for name in MIDDLE},
    **{
        name: {"types", "atomic", "checks", "noise", "tree", "axes", "divergences", "distributions", *MIDDLE, *TOP}
        for name in TOP
    },
}
"""Subpackage of bayesjax: those that it may import besides itself. The top four may use one another, without cycles."""
HOMES = {
    "flax": ("bayesjax.models", "bayesjax.adapters"),
    "numpyro": ("bayesjax.adapters", "bayesjax.distributions"),
    "distrax": ("bayesjax.models.requires_distrax", "experiments"),
    "blackjax": ("bayesjax.kernels", "bayesjax.evaluation.diagnostics"),
    "optax": ("bayesjax.kernels", "experiments"),
    "orbax": (),
    "tensorflow_datasets": ("bayesjax.data",),
    "matplotlib": ("bayesjax.plots",),
    "tyro": ("experiments.harness",),
}
"""Dependency: the modules, and everything below them, that may import it."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(source: str, module: str) -> list[str]:
    """Every module that an import statement anywhere in `source` may load, with `from a import b` read as a and a.b."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def dotted(node: ast.AST) -> str:
    """`jax.config.update` for the attribute chain of that name; empty for anything else."""
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def violations(source: str, module: str) -> list[str]:
    """What `source`, as the file of `module`, does against the rules."""
    found = []
    names = imported(source, module)
    own = module.split(".")[1] if module.startswith("bayesjax.") else None
    for name in names:
        if own and is_within(name, "bayesjax"):
            other = [*name.split("."), ""][1]
            if other in MAY_IMPORT and other != own and other not in MAY_IMPORT[own]:
                found.append(f"{module} imports {name}")
        if own and name.split(".")[0] in ("experiments", "benchmarks", "notebooks", "tests"):
            found.append(f"{module} imports {name}")
        for dependency, homes in HOMES.items():
            if is_within(name, dependency) and not any(is_within(module, home) for home in homes):
                found.append(f"{module} imports {name}, at home in {', '.join(homes)}")
        if any(part.startswith("_src") for part in name.split(".")):
            found.append(f"{module} imports the private {name}")
    for node in ast.walk(ast.parse(source)):
        chain = dotted(node)
        if "_src" in chain.split("."):
            found.append(f"{module} uses the private {chain}")
        is_set = isinstance(getattr(node, "ctx", None), ast.Store) and chain.startswith("jax.config.")
        reads_environment = chain == "os.environ" and module != LAUNCHER
        if is_within(module, "bayesjax") and (is_set or chain == "jax.config.update" or reads_environment):
            found.append(f"{module} touches the global {chain}")
    if is_within(module, "bayesjax") and any(is_within(name, "jax.config") for name in names):
        found.append(f"{module} imports jax.config, which may be read but not set")
    return list(dict.fromkeys(found))


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """A ring of subpackages that import one another, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def without_docstring(source: str, module: str) -> list[str]:
    """The module, its public functions and classes, and their public methods, that say nothing about themselves."""
    tree = ast.parse(source)
    missing = [] if ast.get_docstring(tree) else [module]

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                if not ast.get_docstring(node):
                    missing.append(f"{prefix}.{node.name}")
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}.{node.name}")

    visit(tree.body, module)
    return missing


def test_every_rule_has_somebody_to_hold():
    """The files are found, and every subpackage of the library is in the table of who may import whom."""
    assert len(LIBRARY) > 20 and len(EXPERIMENTS) > 2
    subpackages = {module_name(path).split(".")[1] for path in LIBRARY if path.parent != ROOT / "bayesjax"}
    modules = {path.stem for path in LIBRARY if path.parent == ROOT / "bayesjax"} - {"__init__"}
    assert subpackages | modules == set(MAY_IMPORT)


@pytest.mark.parametrize("path", LIBRARY + EXPERIMENTS, ids=module_name)
def test_imports_run_one_way(path):
    """No import against the layers, no dependency away from home, nothing private, no global flag."""
    assert violations(path.read_text(), module_name(path)) == []


def test_subpackages_form_no_cycle():
    """Between subpackages, too, imports run one way."""
    graph: dict[str, set[str]] = {}
    for path in LIBRARY:
        module = module_name(path)
        if "." in module:
            own = module.split(".")[1]
            used = {n.split(".")[1] for n in imported(path.read_text(), module) if n.startswith("bayesjax.")}
            graph.setdefault(own, set()).update(used - {own})
    assert cycle(graph) == []
    assert cycle({"training": {"data"}, "data": {"evaluation"}, "evaluation": {"training"}})


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bayesjax.tree", "from bayesjax.kernels import sghmc"),
        ("bayesjax.types", "from bayesjax import tree"),
        ("bayesjax.divergences", "import bayesjax.models.mlp"),
        ("bayesjax.objectives.elbo", "from bayesjax import posteriors"),
        ("bayesjax.kernels.hmc", "from ..posteriors.priors import gaussian"),
        ("bayesjax.kernels.hmc", "from .. import models"),
        ("bayesjax.posteriors.priors", "def f():\n    from bayesjax.models import MLP"),
        ("bayesjax.models.mlp", "if TYPE_CHECKING:\n    from bayesjax.training import run"),
        ("bayesjax.training.run", "from experiments import gan"),
        ("bayesjax.objectives.elbo", "import flax.linen as nn"),
        ("bayesjax.evaluation.predictive", "def f():\n    import blackjax"),
        ("bayesjax.training.run", "import optax"),
        ("bayesjax.training.run", "import orbax.checkpoint"),
        ("bayesjax.evaluation.fidelity", "import tensorflow_datasets as tfds"),
        ("bayesjax.evaluation.fidelity", "from matplotlib.figure import Figure"),
        ("experiments.bayesian_gan", "import matplotlib.pyplot as plt"),
        ("bayesjax.data.dataset", "import tyro"),
        ("bayesjax.tree", "from jax._src import core"),
        ("bayesjax.tree", "import jax\nx = jax._src.core.Primitive"),
        ("bayesjax.tree", "import jax\njax.config.update('jax_enable_x64', True)"),
        ("bayesjax.tree", "import jax\njax.config.jax_enable_x64 = True"),
        ("bayesjax.tree", "from jax import config\nconfig.update('jax_enable_x64', True)"),
        ("bayesjax.tree", "import os\nos.environ['XLA_FLAGS'] = ''"),
    ],
)
def test_planted_violations_are_caught(module, source):
    """The checker is not blind: each of these lines is a violation, whatever form the import takes."""
    assert len(violations(source, module)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bayesjax.kernels.sghmc", "import optax\nfrom bayesjax import tree\nfrom bayesjax.kernels.gradient import f"),
        ("bayesjax.evaluation.diagnostics", "from blackjax.diagnostics import potential_scale_reduction"),
        ("bayesjax.training.run", "from bayesjax.training.checkpoint import Checkpointer\nfrom bayesjax import data"),
        ("bayesjax.tree", "import jax\nif jax.config.jax_debug_key_reuse: pass"),
        ("experiments.harness.cli", "import tyro\nfrom bayesjax import kernels\nimport jax\njax.config.update('a', 1)"),
    ],
)
def test_what_is_allowed_passes(module, source):
    """The checker is not paranoid either."""
    assert violations(source, module) == []


@pytest.mark.parametrize(("folder", "most"), [("experiments", 550), ("benchmarks", MAX_LINES), ("tests", MAX_LINES)])
def test_scripts_and_tests_stay_short(folder, most):
    """An experiment tells a whole paper in one file; all other files have the limit of the library."""
    lengths = {str(path): len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert lengths and {path: length for path, length in lengths.items() if length > most} == {}


@pytest.mark.parametrize("path", LIBRARY, ids=module_name)
def test_files_stay_short_and_documented(path):
    """At most 350 lines a file; a docstring on the module and on everything public in it."""
    source = path.read_text()
    assert source.count("\n") <= MAX_LINES
    assert without_docstring(source, module_name(path)) == []


def test_missing_docstrings_are_caught():
    """Functions, classes and methods count; private names and nested functions do not."""
    source = (
        '"""m"""\nclass A:\n    def f(self): ...\n    def _g(self): ...\ndef _h(): ...\ndef k():\n    def n(): ...\n'
    )
    assert without_docstring(source, "m") == ["m.A", "m.A.f", "m.k"]
