"""The contract of every experiment: it runs, resumes to the same numbers, and refuses bad flags in one line.

The flags of each are in `tiny.py`.
"""

import ast
import contextlib
import functools
import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bayesjax import training
from docs import tables as overview
from experiments import sample
from experiments.harness import cli, read_run, report
from tests.conftest import cache_programs
from tests.experiments.tiny import TINY
from tests.parameters import some

ROOT = Path(__file__).resolve().parents[2]
RESUMED = {"gan", "density_estimation", "hmc_tour"}
"""Experiments that `make test` also resumes: those of each kind of stage. `make test-slow` resumes all of them."""
EXPENSIVE = {
    "stylegan", "stacked_mnist", "dbm", "dbn", "gaussian_rbm", "infogan", "bayesian_gan_step_sizes",
    "bayesian_gan_truth",
}  # fmt: skip
"""Experiments that only `make test-slow` runs: each takes ten seconds and more, and shares most code with others."""
TIMINGS = re.compile(r"\b(ms|seconds|minutes|s|outside chunks)\b")


def call(name, *flags):
    """What `python -m experiments.NAME FLAGS` does, in this process."""
    module = overview.experiment(name)
    module.main(cli.parse(module.PRESETS, module.__doc__, [str(each) for each in flags]))


def refusal(capsys, name, *flags):
    """The one line on standard error of a call that must fail with exit code 2 and print nothing else."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        call(name, *flags)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.strip()]
    assert caught.value.code == 2 and out == "" and len(lines) == 1 and lines[0].startswith("error: "), err
    return lines[0]


def rows(folder):
    """The rows of a run, without those that measure time."""
    found = json.loads((folder / "results.json").read_text())["rows"]
    return [row for row in found if not TIMINGS.search(row["measure"])]


def test_every_experiment_is_here():
    """Each module of `experiments` has flags in `tiny.py`."""
    assert set(TINY) == set(overview.experiments())


@pytest.mark.parametrize("name", some(sorted(TINY), *(set(TINY) - EXPENSIVE)))
def test_runs_and_resumes(name, tmp_path, monkeypatch, capsys):
    """A run leaves what it promises; what some had written by their second save resumes to the same rows."""
    run(name, TINY[name].flags, tmp_path, monkeypatch, capsys, resumes=name in RESUMED)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TINY))
def test_runs_and_resumes_with_all_methods(name, tmp_path, monkeypatch, capsys):
    """Every experiment resumes, also with methods that the cheapest flags leave out."""
    run(name, (*TINY[name].flags, *TINY[name].slow), tmp_path, monkeypatch, capsys)


def run(name, flags, tmp_path, monkeypatch, capsys, *, resumes=True):
    """Checks the output of a run, and that a copy of its folder at its second save resumes to the same rows."""
    # The resumed run has the programs of the first.
    cache = functools.partial(cache_programs, tmp_path / "compiled") if resumes else contextlib.nullcontext
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    flags, saves, save = (*flags, "--checkpoint-interval", "0"), 0, training.Checkpointer.save

    def save_and_copy(*arguments, **options):
        nonlocal saves
        save(*arguments, **options)
        saves += 1
        if saves == 2 and resumes:
            shutil.copytree(whole, broken)

    with cache(), monkeypatch.context() as patched:
        patched.setattr(training.Checkpointer, "save", save_and_copy)
        call(name, *flags, "--out", whole)
    printed = capsys.readouterr().out
    results = json.loads((whole / "results.json").read_text())
    config, _ = read_run(whole, type(next(iter(overview.experiment(name).PRESETS.values()))))
    assert json.loads(json.dumps(config.identity())) == results["config"], "the flags are read back"
    assert results["experiment"] == name and results["rows"] and f"results in {whole}" in printed
    assert set(results) - {"warnings"} == {
        "experiment", "command", "config", "rows", "seconds", "device", "versions", "commit",
    }  # fmt: skip
    assert report.render(overview.experiment(name).TABLES, [results]).startswith("| "), "a table of the rows"
    keys = [
        tuple(sorted((key, str(each)) for key, each in row.items() if key not in FIELDS)) for row in results["rows"]
    ]
    assert len(set(keys)) == len(keys), "each row is identified by its keys"
    assert all(np.isfinite(row["value"]) for row in results["rows"] if isinstance(row["value"], float))
    for line in (whole / "metrics.jsonl").read_text().splitlines() if (whole / "metrics.jsonl").exists() else ():
        json.loads(line)
    shows_samples(name, whole, capsys)
    if saves < 2 or not resumes:
        return
    assert not (broken / "results.json").exists()
    flags = (*flags, "--out", broken)
    assert "already holds a run" in refusal(capsys, name, *flags)
    assert "another configuration" in refusal(capsys, name, *flags, "--resume", "--seed", "7")
    with cache():
        call(name, *flags, "--resume")
    assert rows(broken) == rows(whole)


def shows_samples(name, folder, capsys):
    """`experiments.sample` reads the finished run, writes one finite array for each model and leaves the folder."""
    module, before = overview.experiment(name), sorted(folder.rglob("*"))
    arrays, inputs, options = folder.parent / "arrays.npz", folder.parent / "inputs.npz", []
    if hasattr(module, "predict_run"):
        np.savez(inputs, x=np.random.default_rng(0).random((3, *INPUT_SHAPES[name])))
        options = ["--inputs", str(inputs)]
    elif hasattr(module, "sample_run"):
        options = ["--num", "3", "--figure", str(folder.parent / "figure.png")]
    if not options:
        with pytest.raises(SystemExit):
            sample.main([str(folder), "--arrays", str(arrays)])
        assert capsys.readouterr().err == f"error: experiments.{name} has no samples to show\n"
        return
    if hasattr(module, "predict_run"):
        np.savez(arrays, x=np.zeros((3, 7, 9, 2)))
        with pytest.raises(SystemExit):
            sample.main([str(folder), "--arrays", "a.npz", "--inputs", str(arrays)])
        assert "do not fit the networks of" in capsys.readouterr().err
    sample.main([str(folder), "--arrays", str(arrays), *options])
    with np.load(arrays) as made:
        assert made.files and all(made[each].shape[0] == 3 and np.isfinite(made[each]).all() for each in made.files)
    assert sorted(folder.rglob("*")) == before


INPUT_SHAPES = {"bayes_by_backprop": (8, 8, 1), "bayesian_segnet": (48, 64, 1), "cyclegan": (8, 8, 1)}
"""Shape of an image of the data set in `tiny.py`."""
FIELDS = (
    "value",
    "stderr",
    "n",
    "paper",
    "source",
    "values",
    "sd",
    "half",
    "num_real",
    "num_fake",
    "ceiling",
    "theory",
    "floor",
    "upper_floor",
)


@pytest.mark.parametrize(("name", "flags", "words"), [(name, *bad) for name in sorted(TINY) for bad in TINY[name].bad])
def test_bad_flags(name, flags, words, tmp_path, capsys):
    """One line says what came and what was expected; nothing is written."""
    assert words in refusal(capsys, name, *TINY[name].flags, "--out", tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", sorted(TINY))
def test_help(name, capsys):
    """`--help` describes every flag in at least three words, and every preset is named in the description."""
    module = importlib.import_module(overview.experiment(name).__name__)
    with pytest.raises(SystemExit) as caught:
        cli.parse(module.PRESETS, module.__doc__, ["--help"])
    assert caught.value.code == 0 and "--resume" in capsys.readouterr().out
    (config,) = [
        each for each in ast.parse(Path(module.__file__).read_text()).body if getattr(each, "name", "") == "Config"
    ]
    for field, text in zip(config.body[1:], config.body[2:], strict=False):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(text, ast.Expr), f"{ast.unparse(field.target)} has no help"
            assert len(ast.literal_eval(text.value).split()) >= 3, ast.unparse(text)
