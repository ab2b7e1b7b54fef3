"""The scripts as they are called: bad input is one clear line and exit code 2; a run leaves what it promises."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import bayesian_gan, bayesian_gan_semisupervised, bayesian_gan_step_sizes, common, tables

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {"synthetic": bayesian_gan, "semisupervised": bayesian_gan_semisupervised}
pytestmark = pytest.mark.usefixtures("compile_once")


def call(script, *arguments):
    """What `python -m experiments.NAME ARGUMENTS` does, in this process."""
    module = SCRIPTS[script]
    module.main(common.parse(module.PRESETS, module.__doc__, [str(argument) for argument in arguments]))


def error_line(capsys, script, *arguments):
    """The one line on standard error of a call that must fail with exit code 2 and print nothing else."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        call(script, *arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    lines = [line for line in err.splitlines() if line.strip()]
    assert out == "" and len(lines) == 1 and lines[0].startswith("error: "), err
    return lines[0]


def npz(path, **changed):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.random((40, 8, 8)).astype(np.float32),
        "y_train": np.arange(40) % 2,
        "x_test": rng.random((10, 8, 8)).astype(np.float32),
        "y_test": np.arange(10) % 2,
    }
    np.savez(path, **{name: array for name, array in (arrays | changed).items() if array is not None})
    return path


@pytest.mark.parametrize(
    ("script", "name", "near"), [("semisupervised", "digit", "digits"), ("synthetic", "mnits", "mnist")]
)
def test_unknown_data_set(tmp_path, capsys, script, name, near):
    """The nearest names are offered."""
    line = error_line(capsys, script, "--out", tmp_path / "run", "--dataset", name)
    assert repr(name) in line and "nearest" in line and near in line


def test_data_set_not_prepared(tmp_path, capsys):
    """Where it was looked for, and what to set or run."""
    line = error_line(
        capsys, "semisupervised", "--out", tmp_path / "run", "--dataset", "mnist", "--data-dir", tmp_path / "tfds"
    )
    assert "TFDS_DATA_DIR" in line and str(tmp_path / "tfds") in line and "tfds build mnist" in line


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"y_train": None}, "lacks the arrays y_train"),
        ({"y_test": np.full(10, 2)}, "y_test must lie in 0 .. 1"),
        ({"x_train": np.zeros((40, 2, 2)), "x_test": np.zeros((10, 2, 2))}, "too small for 2 layers"),
        ({"x_train": np.zeros((40, 5)), "x_test": np.zeros((10, 5))}, "must hold images"),
    ],
    ids=["missing array", "label out of range", "image too small", "no images"],
)
def test_bad_npz(tmp_path, capsys, changed, words):
    """The file or the data set is named, and what is wrong with it."""
    path = npz(tmp_path / "images.npz", **changed)
    line = error_line(capsys, "semisupervised", "--out", tmp_path / "run", "--dataset", path, "--num-labelled", "4")
    assert words in line


def test_missing_file(tmp_path, capsys):
    """A path that leads nowhere is named."""
    path = tmp_path / "nowhere.npz"
    assert str(path) in error_line(capsys, "synthetic", "--out", tmp_path / "run", "--dataset", path)


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("semisupervised", ("--num-labelled", "2000"), "--num-labelled must lie between 10 .* and 1437 .*; got 2000"),
        ("semisupervised", ("--num-labelled", "9"), "--num-labelled must lie between 10 .* got 9"),
        ("semisupervised", ("--learning-rate", "0"), "--learning-rate must be positive; got 0"),
        ("semisupervised", ("--temperature", "-1"), "--temperature must be positive; got -1"),
        ("semisupervised", ("--learning-rate", "nan"), "--learning-rate must be positive"),
        ("semisupervised", ("--methods",), "--methods must name at least one method"),
        ("semisupervised", ("--methods", "baies"), "--methods must be among .*; got baies"),
        ("semisupervised", ("--warmup", "500"), "--warmup must be less than --num-steps"),
        ("semisupervised", ("--num-burnin", "246"), "no draw is kept"),
        ("synthetic", ("--friction", "1"), "--friction must lie strictly between 0 and 1"),
        ("semisupervised", ("--num-labelled",), "--num-labelled must be positive numbers"),
        ("semisupervised", ("--kernel-size", "0"), "--kernel-size must be at least 1"),
        ("synthetic", ("--learning-rate", "-0.1"), "--learning-rate must be positive; got -0.1"),
        ("synthetic", ("--temperature", "0"), "--temperature must be positive; got 0"),
        ("synthetic", ("--extra-temperatures", "0.1", "-0.1"), "--extra-temperatures must not be negative"),
        ("synthetic", ("--adam-learning-rate", "0"), "--adam-learning-rate must be positive"),
        ("synthetic", ("--num-generators", "0"), "--num-generators must be at least 1; got 0"),
        ("synthetic", ("--methods", "ml", "mll"), "--methods must be among .*; got mll"),
    ],
)  # fmt: skip
def test_setting_out_of_range(tmp_path, capsys, script, arguments, words):
    """The flag is named, with what came and what was expected, before anything is computed."""
    line = error_line(capsys, script, "--out", tmp_path / "run", *arguments)
    assert re.search(words, line), line


@pytest.mark.parametrize(
    "arguments", [("--warmup", "0"), ("--thinning", "1000"), ("--thinning", "0"), ("--grid-step", "0")]
)
def test_setting_that_leaves_nothing_to_report(tmp_path, capsys, vectors, arguments):
    """A run that would keep no draws, or measure on no grid, is refused in one line too, not by a traceback."""
    tiny = ("--num-steps", 4, "--warmup", 2, "--thinning", 2, "--hidden", 2, "--num-generators", 1)
    small = ("--dataset", vectors, "--methods", "bayes", *tiny)
    error_line(capsys, "synthetic", "--out", tmp_path / "run", *small, *arguments)


def test_bad_input_leaves_the_folder_free(tmp_path, capsys):
    """After a refused setting the corrected call runs in the same folder: nothing there claims to be a run."""
    out = tmp_path / "run"
    error_line(capsys, "semisupervised", "--out", out, "--learning-rate", "0")
    line = error_line(capsys, "semisupervised", "--out", out, "--learning-rate", "0.1", "--num-labelled", "9")
    assert "--num-labelled" in line and "already holds" not in line


@pytest.mark.parametrize("arguments", [("--preset", "papper"), ("--preset=papper",)])
@pytest.mark.parametrize("script", SCRIPTS)
def test_unknown_preset(capsys, script, arguments):
    """The presets are listed and the nearest is offered."""
    line = error_line(capsys, script, *arguments)
    assert "quick, paper" in line and "'papper'" in line and "did you mean paper" in line


def test_folder_that_cannot_be_written(tmp_path, capsys):
    """--out under a regular file."""
    (tmp_path / "file").write_text("in the way")
    line = error_line(capsys, "synthetic", "--out", tmp_path / "file" / "run")
    assert "--out" in line and str(tmp_path / "file" / "run") in line and "Not a directory" in line


def test_presets():
    """--preset, in either spelling, chooses the defaults; flags override them wherever they stand."""
    parse = lambda *arguments: common.parse(bayesian_gan.PRESETS, None, list(arguments))  # noqa: E731
    assert parse() == bayesian_gan.QUICK
    assert parse("--preset", "paper") == parse("--preset=paper") == bayesian_gan.PAPER
    mixed = parse("--hidden", "7", "--preset", "paper", "--methods", "ml", "bayes")
    assert (mixed.hidden, mixed.methods, mixed.num_seeds) == (7, ("ml", "bayes"), bayesian_gan.PAPER.num_seeds)


SYNTHETIC = (
    "--methods", "bayes", "--num-generators", "2", "--hidden", "4", "--latent-dim", "2", "--batch-size", "8",
    "--num-steps", "140", "--warmup", "20", "--thinning", "5", "--grid-step", "0.5", "--checkpoint-interval", "0",
)  # fmt: skip
SEMISUPERVISED = (
    "--methods", "supervised", "bayes", "--num-labelled", "10", "--num-label-draws", "2", "--num-generators", "2",
    "--generator-features", "4", "--discriminator-features", "4", "--latent-dim", "2", "--batch-size", "8",
    "--num-steps", "16", "--warmup", "8", "--num-burnin", "2", "--thinning", "2",
)  # fmt: skip
EXPECTED = {
    "synthetic": (
        SYNTHETIC,
        {"bayes T=1 js", "bayes T=1 js_draws", "bayes T=1 js_r_hat", "bayes T=1 js_ess"},
        {"divergence.png", "samples.png"},
    ),
    "semisupervised": (
        SEMISUPERVISED,
        {"supervised N_s=10 error %", "bayes N_s=10 error %", "bayes N_s=10 nll"},
        {"samples-bayes.png"},
    ),
}


@pytest.fixture(scope="module", params=list(SCRIPTS))
def finished(request, tmp_path_factory, vectors):
    """A tiny run of each experiment, to its end: the script's name, the arguments and the folder."""
    script, out = request.param, tmp_path_factory.mktemp("runs") / request.param
    arguments = ("--out", out, *EXPECTED[script][0], *(("--dataset", vectors) if script == "synthetic" else ()))
    call(script, *arguments)
    return script, arguments, out


def results(out):
    return json.loads((out / "results.json").read_text())


def test_results(finished):
    """results.json says what was run, what came out, how long it took, on what, with what, from which commit."""
    script, _, out = finished
    found = results(out)
    assert {"experiment", "config", "metrics", "seconds", "device", "versions", "commit"} <= set(found)
    assert found["experiment"] == SCRIPTS[script].__name__.split(".")[-1]
    assert EXPECTED[script][1] <= set(found["metrics"])
    for name, entry in found["metrics"].items():
        assert np.isfinite(entry["value"]), name
    assert 0 < found["seconds"] < 600
    assert found["device"].startswith(("cpu", "gpu", "tpu", "NVIDIA"))
    assert found["versions"]["jax"] == jax.__version__
    assert found["commit"] == common.commit()
    assert {"experiment": found["experiment"], **found["config"]} == json.loads((out / "config.json").read_text())
    assert not {"out", "resume", "overwrite"} & set(found["config"])


def test_files(finished):
    """The figures are PNG files; metrics.jsonl has lines of every stage; every stage left a checkpoint."""
    script, _, out = finished
    figures = {path.name for path in (out / "figures").iterdir()}
    assert EXPECTED[script][2] <= figures
    assert all((out / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in figures)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    stages = {row["stage"] for row in rows}
    assert len(stages) >= 2 and any("warmup" in stage for stage in stages)
    assert {path.name for path in (out / "checkpoints").iterdir()} == stages
    assert all({"stage", "step"} < set(row) for row in rows)


def test_resuming_a_finished_run(finished, capsys):
    """--resume on a finished run gives the same metrics, timings included, since nothing is run again."""
    script, arguments, out = finished
    before = results(out)
    call(script, *arguments, "--resume")
    assert results(out)["metrics"] == before["metrics"]
    assert results(out)["seconds"] >= before["seconds"]  # of both
    assert str(out / "results.json") in capsys.readouterr().out


def test_existing_run(finished, capsys):
    """Without --resume or --overwrite a finished run is left alone, and both are offered."""
    script, arguments, out = finished
    line = error_line(capsys, script, *arguments)
    assert str(out) in line and "--resume" in line and "--overwrite" in line
    assert (out / "results.json").exists()


def test_resuming_another_configuration(finished, capsys):
    """--resume with a changed setting names the setting, what it was and what it is."""
    script, arguments, out = finished
    line = error_line(capsys, script, *arguments, "--resume", "--seed", "7")
    assert "another configuration: seed was 0 and is now 7" in line
    assert results(out)["config"]["seed"] == 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_bookkeeping_is_no_configuration(tmp_path, script):
    """A run may be resumed with another folder, save interval or --publish: none of these changes a number."""
    parse = lambda *arguments: common.parse(SCRIPTS[script].PRESETS, None, list(arguments))  # noqa: E731
    identity = lambda *arguments: common.Experiment("name", parse(*arguments)).identity()  # noqa: E731
    bookkeeping = ("--out", str(tmp_path), "--resume", "--overwrite", "--publish", "--checkpoint-interval", "5")
    assert identity(*bookkeeping) == identity()
    assert identity("--num-steps", "601") != identity()


def test_interrupted_run_resumes(finished, tmp_path, capsys, monkeypatch):
    """Ctrl-C in the sampler's stage exits with 130 and says how to go on; the numbers are the unbroken run's."""
    script, arguments, out = finished
    if script != "synthetic":
        pytest.skip("one experiment is enough: they share the loop and the run folder")
    arguments = [tmp_path / "broken" if argument == out else argument for argument in arguments]
    write = bayesian_gan.training.MetricsFile.write

    def interrupt(self, row):
        write(self, row)
        if "bayes-T1" in self.stage:
            raise KeyboardInterrupt

    capsys.readouterr()
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(bayesian_gan.training.MetricsFile, "write", interrupt)
        call(script, *arguments)
    assert caught.value.code == 130
    assert "--resume" in capsys.readouterr().err
    assert not (tmp_path / "broken" / "results.json").exists()
    call(script, *arguments, "--resume")
    whole, broken = (results(folder)["metrics"] for folder in (out, tmp_path / "broken"))
    same = [name for name in whole if " js" in name or "logit" in name]
    assert len(same) >= 4
    for name in same:
        assert whole[name]["value"] == broken[name]["value"], name


def test_overwrite(finished, tmp_path, capsys):
    """--overwrite deletes this experiment's own files, and those only once the flags and the data are good."""
    script, arguments, out = finished
    before = results(out)
    error_line(capsys, script, *arguments, "--overwrite", "--friction", "2")
    error_line(capsys, script, *arguments, "--overwrite", "--dataset", "mnits")
    assert results(out) == before
    other = next(name for name in SCRIPTS if name != script)
    assert "is not of experiments." in error_line(capsys, other, "--out", out, "--overwrite")
    (tmp_path / "note.txt").write_text("mine")
    (tmp_path / "parts").mkdir()
    assert "without a config.json" in error_line(capsys, script, "--out", tmp_path)
    run = common.Experiment("name", common.RunFlags(out=str(tmp_path), dataset="d", overwrite=True))
    with run:
        run.open()
    assert (tmp_path / "note.txt").exists() and (tmp_path / "config.json").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_publishing_something_else_than_a_preset(capsys, script):
    """The committed results are those of the presets: no other setting may take their name."""
    line = error_line(capsys, script, "--publish", "--friction", "0.2")
    assert "--publish" in line and "--friction" in line


def test_from_the_command_line(tmp_path):
    """As a process: exit code 2, nothing on standard output, one line on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "experiments.bayesian_gan", "--out", tmp_path / "run", "--temperature", "0"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == ["error: --temperature must be positive; got 0.0"]


@pytest.mark.slow
def test_step_sizes(tmp_path, capsys):
    """Every setting is measured from one warm-up; a step size a million times too large is told as diverging."""
    small = ("--hidden", "8", "--num-generators", "2", "--warmup", "10", "--num-steps", "20", "--temperatures", "1")
    flags = (*small, "--frictions", "0.5", "--learning-rates", "1e-4", "1e3", "--out", str(tmp_path))
    bayesian_gan_step_sizes.main(common.parse(bayesian_gan_step_sizes.PRESETS, None, list(flags)))
    metrics = json.loads((tmp_path / "results.json").read_text())["metrics"]
    values = {name: entry["value"] for name, entry in metrics.items()}
    assert len(values) == 4
    assert all(0.5 < value < 2 for name, value in values.items() if "learning_rate=0.0001 generator" in name)
    assert all(value is None for name, value in values.items() if "learning_rate=1000" in name)
    assert "diverges" in capsys.readouterr().out and "diverges" in tables.render(tmp_path / "results.json")
