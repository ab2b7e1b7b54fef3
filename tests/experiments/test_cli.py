"""The command line: annotations validate flags, presets give defaults, and every mistake is one line (exit code 2)."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import jax
import pytest

from bayesjax.training import programs
from experiments.harness import Count, Natural, NonEmpty, Positive, Range, RunConfig, cli, launch
from tests.conftest import jax_config
from tests.experiments.tiny import TINY
from tests.parameters import some

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of a test."""

    kernel: Literal["adam", "sghmc"] = "adam"
    """Kernel that moves the weights."""
    losses: tuple[Literal["hinge", "r1"], ...] = ("hinge",)
    """Losses to compare."""
    hidden: tuple[Count, ...] = (8,)
    """Units of the hidden layers."""
    sizes: Annotated[tuple[Natural, ...], NonEmpty] = (1,)
    """Sizes to compare."""
    friction: Annotated[float, Range(above=0, below=1)] = 0.1
    """Friction of SGHMC."""
    learning_rate: Positive = 1e-3
    """Learning rate of Adam."""
    scales: tuple[float, float] = (1.0, 0.5)
    """Standard deviations of the mixture."""


PRESETS = {"quick": Config(), "paper": Config(kernel="sghmc", hidden=(400, 400))}


def parse(*arguments):
    return cli.parse(PRESETS, "A test.", [str(each) for each in arguments])


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == "" and len(err.splitlines()) == 1 and err.startswith("error: "), err
    return err.removeprefix("error: ").rstrip()


@pytest.mark.parametrize("width", ["40", "120"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kernel", "adm"), "invalid choice 'adm' for argument '--kernel'. Expected one of ('adam', 'sghmc')."),
        (("--losses",), "--losses must be one or more of hinge, r1, each at most once; got ()"),
        (("--losses", "r1", "r1"), "--losses must be one or more of hinge, r1, each at most once; got ('r1', 'r1')"),
        (("--hidden", 8, 0), "--hidden must be a list of numbers that are at least 1; got (8, 0)"),
        (("--sizes",), "--sizes must be a list with at least one element; got ()"),
        (("--friction", 1), "--friction must be above 0 and below 1; got 1.0"),
        (("--friction", "nan"), "--friction must be above 0 and below 1; got nan"),
        (("--learning-rate", "inf"), "--learning-rate must be above 0; got inf"),
        (("--scales", 1, "inf"), "--scales must be a list of numbers that are finite; got (1.0, inf)"),
        (("--seed", -1), "--seed must be at least 0; got -1"),
        (("--checkpoint-interval", -1), "--checkpoint-interval must be at least 0; got -1.0"),
        (("--devices", 0), "--devices must be at least 1; got 0"),
        (("--parallel", "pmap", "--processes", 2), "--parallel pmap supports one process; got --processes 2"),
        (("--kernl", "adam"), "Unrecognized options: --kernl, adam: did you mean --kernel?"),
        (("--seed", "x"), "Error parsing --seed: invalid literal for int() with base 10: 'x'"),
        (("--preset", "papr"), "--preset must be one of quick, paper; got 'papr': did you mean paper?"),
        (("--preset=", "--seed", 1), "--preset must be one of quick, paper; got ''"),
        (("--publish", "--seed", 1), "--publish writes the results of a preset without changes: remove --seed"),
    ],
)
def test_mistakes_are_one_line(arguments, words, width, capsys, monkeypatch):
    """The line says what came and what was expected, whatever the width of the terminal."""
    monkeypatch.setenv("COLUMNS", width)
    assert refusal(capsys, *arguments) == words


def test_presets_give_the_defaults():
    """Flags override the preset, which knows its name; an empty list of numbers is allowed."""
    config = parse("--preset", "paper", "--hidden", "--seed", 3)
    assert config == dataclasses.replace(PRESETS["paper"], preset="paper", hidden=(), seed=3)
    assert parse("--preset=paper").kernel == "sghmc" and parse().preset == "quick"
    assert parse("--publish", "--dataset", "digits").publish, "another data set is another file"


def test_quick_presets_compile_fast(monkeypatch):
    """Their programs are compiled with few optimisations, unless a flag refuses it; those of other presets are not."""
    assert parse().fast_compile and not parse("--no-fast-compile").fast_compile
    assert not parse("--preset", "paper").fast_compile and parse("--preset", "paper", "--fast-compile").fast_compile
    assert parse().identity() != parse("--no-fast-compile").identity(), "their results differ in the last digits"
    calls = []
    monkeypatch.setattr(launch, "compile_fast", lambda: calls.append(1))
    for config, expected in ((parse("--no-fast-compile"), 0), (parse(), 1)):
        launch.prepare(config)
        assert len(calls) == expected


def test_programs_are_kept_in_the_cache_folder(tmp_path, monkeypatch):
    """Below BAYESJAX_CACHE_DIR, which the tests leave empty; not where JAX has a folder or none can be made."""
    monkeypatch.setattr(launch, "compile_fast", lambda: None)
    (tmp_path / "file").touch()
    cache, no_folder = tmp_path / "c", tmp_path / "file"
    for folder, own, is_kept in (
        (cache, None, True),
        ("", None, False),
        (cache, "/own", False),
        (no_folder, None, False),
    ):
        monkeypatch.setenv("BAYESJAX_CACHE_DIR", str(folder))
        with jax_config(jax_compilation_cache_dir=own, jax_persistent_cache_min_compile_time_secs=1.0):
            launch.prepare(parse())
            expected = str(tmp_path / "c" / "programs" / programs.processor()) if is_kept else own
            assert jax.config.values["jax_compilation_cache_dir"] == expected
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["programs"]
    assert list((tmp_path / "c" / "programs" / programs.processor()).iterdir()) == []


def test_old_programs_are_deleted(tmp_path, monkeypatch):
    """Three programs of 100 bytes exceed a limit of 250, and the one that was used first is deleted."""
    monkeypatch.setenv("BAYESJAX_CACHE_DIR", str(tmp_path))
    folder = programs.cache_folder()
    for seconds, name in ((2, "b"), (1, "a"), (3, "c")):
        (folder / name).write_bytes(bytes(100))
        os.utime(folder / name, (seconds, seconds))
    monkeypatch.setattr(programs, "MAX_BYTES", 250)
    programs.cache_folder()
    assert {path.name for path in folder.iterdir()} == {"b", "c"}


@pytest.mark.slow
def test_a_second_start_reads_its_programs(tmp_path):
    """Every program of the first start is a file, the second start adds none, and their results are equal."""
    environment = os.environ | {"BAYESJAX_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "experiments.vae", *TINY["vae"].flags, "--out"]
    files, results = [], []
    for out in (tmp_path / "first", tmp_path / "second"):
        subprocess.run([*map(str, command), str(out)], env=environment, check=True, capture_output=True, cwd=ROOT)
        files.append({path.name for path in (tmp_path / "cache").rglob("*-cache")})
        rows = json.loads((out / "results.json").read_text())["rows"]
        results.append([row for row in rows if "seconds" not in row["measure"]])
    assert len(files[0]) > 5 and files[0] == files[1]
    assert results[0] == results[1]


def test_configurations_are_checked_wherever_they_are_made():
    """A configuration made in Python is checked like a command line; integers are numbers, booleans are not."""
    assert Config(learning_rate=1).learning_rate == 1
    for field, value in (("learning_rate", True), ("seed", 1.5), ("kernel", "x"), ("friction", math.nan), ("out", 3)):
        with pytest.raises(ValueError, match=f"--{field.replace('_', '-')} must be"):
            Config(**{field: value})


def test_identity_is_what_determines_the_result():
    """Folders, checkpoints and devices are not part of it."""
    same = Config(out="a", resume=True, devices=2, data_dir="b", checkpoint_interval=0.0)
    assert same.identity() == Config().identity() and Config(seed=1).identity() != Config().identity()


@pytest.mark.parametrize("name", some(["gan", "bayesian_gan"], "gan"))
def test_help_is_quick(name):
    """`--help` takes less than 6 seconds of processor time, imports included; 3 on an idle machine."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"experiments.{name} --help: {seconds:.2f} s")
    assert done.returncode == 0 and "--preset" in done.stdout and "--resume" in done.stdout, done.stderr
    assert seconds < 6


def test_interrupt_outside_a_run_is_one_line():
    """Ctrl-C during the imports or the parsing of flags prints no traceback."""
    code = "import experiments; raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and done.stderr == "interrupted\n"
