"""The documentation: complete, with the numbers of the results files, and with code that runs.

`make docs` builds the site strictly, which checks links, images and the navigation; here is what it cannot check.
"""

import contextlib
import importlib.util
import inspect
import io
import re
import types
from pathlib import Path

import pytest
from mkdocs.exceptions import PluginError

import bayesjax
from docs import tables as overview
from tests.parameters import some

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
NOT_RUN = "<!-- not run"  # a comment before a block that needs data, a network or minutes; it says which
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n+)?^( *)```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
DOCUMENTED = type | types.FunctionType  # other values carry no docstring


def load_hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load_hooks()


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT / "docs"))


def resolve(path: str):
    """The object at a dotted path whose last part may be hidden by a module of the same name."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


# API reference


@pytest.mark.parametrize("name", bayesjax.__all__)
def test_public_names_are_on_the_site(name):
    """A user reaches nothing as an attribute of a subpackage, or of a module in its `__all__`, that is not listed."""
    package = getattr(bayesjax, name)
    listed = [resolve(path) for path in hooks.public_paths(package.__name__)]
    modules = [package]
    if hasattr(package, "__all__"):
        exported = [getattr(package, key) for key in package.__all__]
        modules = [value for value in exported if inspect.ismodule(value)]
        listed += [value for value in vars(bayesjax.types).values() if value in exported]  # on the page of the types
        assert [value for value in exported if not inspect.ismodule(value) and not _among(value, listed)] == []
    for module in modules:
        own = [value for key, value in vars(module).items() if not key.startswith("_") and _defined_in(value, module)]
        assert [value for value in own if not _among(value, listed)] == []


@pytest.mark.parametrize("name", bayesjax.__all__)
def test_public_names_have_docstrings(name):
    """Their own: not the signature that NamedTuples and dataclasses are given."""
    listed = {path: resolve(path) for path in hooks.public_paths(f"bayesjax.{name}")}
    assert listed
    documented = {path: value.__doc__ or "" for path, value in listed.items() if isinstance(value, DOCUMENTED)}
    assert [path for path, text in documented.items() if not text or text.startswith(f"{path.split('.')[-1]}(")] == []


def _among(value, others) -> bool:
    return any(value is other for other in others)


def _defined_in(value, module) -> bool:
    return isinstance(value, DOCUMENTED) and value.__module__ == module.__name__


def test_every_subpackage_has_a_page():
    marks = [mark for page in PAGES for mark in hooks.API_MARK.findall(page.read_text())]
    assert sorted(marks) == sorted(hooks.subpackages())


def test_a_missing_entry_and_a_foreign_script_fail_the_build(tmp_path):
    page = tmp_path / "index.html"
    anchors = "".join(
        f'<h2 id="{path}"></h2>' for package in hooks.subpackages() for path in hooks.public_paths(package)
    )
    page.write_text(anchors)
    hooks.on_post_build({"site_dir": tmp_path})
    page.write_text(anchors.replace('id="bayesjax.kernels.sghmc.sghmc"', ""))
    with pytest.raises(PluginError, match=r"kernels\.sghmc\.sghmc"):
        hooks.on_post_build({"site_dir": tmp_path})
    page.write_text(anchors + '<script src="https://cdn.example.org/mathjax.js"></script>')
    with pytest.raises(PluginError, match=r"cdn\.example\.org"):
        hooks.on_post_build({"site_dir": tmp_path})


# Pages


def test_links_out_of_docs_lead_to_files():
    config = {"repo_url": "https://github.com/bayesjax/bayesjax/"}

    def on_site(link: str, source: str = "results/gan.md") -> str:
        return hooks.rewritten(hooks.LINK.search(link), source, config)

    assert on_site("[code](../../bayesjax/noise.py)") == f"[code]({config['repo_url']}blob/main/bayesjax/noise.py)"
    assert on_site("![](../../experiments/results/gan-mnist-mnist.png)") == "![](../figures/gan-mnist-mnist.png)"
    assert on_site("[other](vae.md)") == "[other](vae.md)"
    with pytest.raises(PluginError, match="no_such_file"):
        on_site("[code](../../bayesjax/no_such_file.py)")
    for page in PAGES:
        for link in hooks.LINK.finditer(page.read_text()):
            hooks.rewritten(link, name_of(page), config)


def test_every_published_figure_is_shown():
    published = {path.name for path in (ROOT / "experiments" / "results").glob("*.png")}
    assert published == hooks.shown_figures()


def test_notebooks_become_pages_with_their_outputs():
    text, images = hooks.notebook_page(ROOT / "notebooks" / "bayesian_gan.ipynb")
    assert text.startswith("# The Bayesian GAN") and "```python" in text
    assert hooks.BADGE.sub(r"[\1](\2)", "[![Colab](https://a/b.svg)](https://c/d)") == "[Colab](https://c/d)"
    assert images and all(name in text and content.startswith(b"\x89PNG") for name, content in images.items())


def generated_parts(page: Path) -> list[str]:
    return [match[0] for match in overview.MARK.finditer(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tables_are_rendered_from_the_results_files(page):
    for part in generated_parts(page):
        assert part == overview.updated(part, page), "run `make tables`"


def test_a_changed_number_would_be_noticed():
    parts = [(page, part) for page in PAGES for part in generated_parts(page) if "\n| " in part]
    assert len(parts) > 40
    for page, part in parts:
        row = part.splitlines()[3]
        changed = part.replace(row, re.sub(r"\d(?=\D*$)", lambda digit: str((int(digit[0]) + 1) % 10), row))
        assert changed != part and overview.updated(changed, page) == part


def test_every_result_has_a_table():
    """Every results file is named by a marker of one page, with `*` or in a list."""
    text = "".join(page.read_text() for page in PAGES)
    for folder, kind in (("experiments", "results"), ("benchmarks", "benchmark")):
        names = re.findall(rf"<!-- {kind}: (.*?) -->", text)
        patterns = [name.strip() for entry in names for name in entry.split(",")]
        files = {path.stem for path in (ROOT / folder / "results").glob("*.json")}
        shown = {path.stem for pattern in patterns for path in (ROOT / folder / "results").glob(f"{pattern}.json")}
        assert files - shown <= {"judge_images-quick-digits", "convolutions_xeon"}


def test_relative_distances_from_hmc_are_those_of_the_results():
    """The summary of docs/results/samplers.md, written by hand."""
    results = {"paper-digits": "total variation", "mnist-mnist": "total variation"}
    results["uci-uci_wine-quality-red"] = "distance of f"
    text = (ROOT / "docs" / "results" / "samplers.md").read_text()
    summary = re.findall(r"^\| ([\w -]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    assert len(summary) == 12
    for column, (name, measure) in enumerate(results.items(), start=1):
        (run,) = overview.results(f"bnn_posterior-{name}")
        value = {row["method"]: row["value"] for row in run["rows"] if row["measure"] == measure}
        for line in summary:
            method = {"last-layer Laplace": "laplace"}.get(line[0], line[0])
            assert line[column] == f"{value[method] / value['hmc']:.1f}", (name, method)


# Code


def test_names_in_the_text_exist():
    """`kernels.sghmc` and the like, in the pages and in the README."""
    named = re.compile(rf"`({'|'.join(bayesjax.__all__)})\.([\w.]+)[`(]")
    missing = []
    for page in [*PAGES, ROOT / "README.md"]:
        for package, path in named.findall(page.read_text().replace(".py`", "")):
            value = getattr(bayesjax, package)
            for part in path.split("."):
                value = getattr(value, part, None)
            missing += [f"{page.name}: {package}.{path}"] if value is None else []
    assert missing == []


CODE_PAGES = [page for page in PAGES if "```python" in page.read_text()]
SLOW_PAGES = {
    *("getting_started.md", "how_to/objective.md", "how_to/model.md", "how_to/from_other_libraries.md"),
    *("how_to/bayesian_gan.md", "how_to/reading_a_run.md", "how_to/checking_a_fit.md"),
}
"""Pages whose code takes seven seconds and more. The code of the README is in `test_readme.py`."""
QUICK_PAGES = [name_of(page) for page in CODE_PAGES if name_of(page) not in SLOW_PAGES]


@pytest.mark.parametrize("page", some(CODE_PAGES, *QUICK_PAGES, ids=name_of), ids=name_of)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    """The blocks of a page run in order in one namespace."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "docs"}
    with contextlib.redirect_stdout(io.StringIO()):
        for skipped, _, block in BLOCK.findall(page.read_text()):
            if not skipped:
                exec(compile(inspect.cleandoc(block), name_of(page), "exec"), namespace)


def test_blocks_that_are_not_run_are_few_and_compile():
    blocks = [(page, *match) for page in PAGES for match in BLOCK.findall(page.read_text())]
    skipped = [block for _, reason, _, block in blocks if reason]
    assert len(skipped) <= 6
    for block in skipped:
        compile(inspect.cleandoc(block), "docs", "exec")
    assert sum(page.read_text().count("```python") for page in PAGES) == len(blocks)
