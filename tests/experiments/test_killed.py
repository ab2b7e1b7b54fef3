"""Four experiments, killed again and again at random moments, end with the draws and results of unbroken runs.

`kill -9` comes while a program is compiled, a chunk runs, a save, a part, a figure or the results are written. A try
that ends before its kill is compared and begins anew. NUM_KILLS in the environment changes the number of tries of each
experiment.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.experiments.test_every_experiment import rows

ROOT = Path(__file__).resolve().parents[2]
NUM_KILLS = int(os.environ.get("NUM_KILLS", "17"))
COMMANDS = {
    "bayesian_gan": (
        "--methods", "bayes", "--num-generators", "2", "--hidden", "4", "--latent-dim", "2", "--batch-size", "8",
        "--num-steps", "200", "--num-warmup", "100", "--thinning", "5", "--grid-step", "0.5",
    ),
    "gan": (
        "--num-steps", "400", "--num-seeds", "2", "--hidden", "16", "--num-judged", "200", "--num-evaluations", "5",
    ),
    "progressive_gan": (
        "--features", "3", "2", "--latent-dim", "3", "--batch-size", "4", "--num-steps", "900", "--growth", "0.6",
        "--num-evaluations", "6", "--num-judged", "40", "--num-paths", "4", "--methods", "progan_grown",
    ),
    "standard_posteriors": (
        "--targets", "schools_noncentred", "--num-warmup", "60", "--num-draws", "300", "--num-reference", "300",
    ),
}  # fmt: skip


def start(name, out, *flags, cache=None):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "BAYESJAX_COMMIT": "tested"}
    if cache:
        environment |= {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-m", f"experiments.{name}", "--out", str(out), "--checkpoint-interval", "0"]
    return subprocess.Popen(
        [*command, *COMMANDS[name], *flags],
        env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def results(out):
    """results.json without what depends on time."""
    contents = json.loads((out / "results.json").read_text())
    return {name: value for name, value in contents.items() if name not in ("seconds", "command", "rows")} | {
        "rows": rows(out)
    }


def draws(out):
    """The bytes of the final state, and of all draws and infos, of every stage."""
    contents = {}
    for save in sorted(out.glob("checkpoints/*/step_*")):
        run = json.loads((save / "run.json").read_text())
        pieces = [np.load(save.parents[0] / "record" / name) for name in run["record"]]
        joined = [
            b"".join(np.ascontiguousarray(piece[name]).tobytes() for piece in pieces)
            for name in (pieces[0].files if pieces else ())
            if name != "types"
        ]
        contents[save.parent.name, save.name] = (joined, (save / "state.npz").read_bytes(), run["metrics"])
    return contents


def folder_is_tidy(out):
    return not [path for path in out.rglob("*") if path.name.endswith(".unfinished")]


@pytest.mark.slow
def test_killed_in_a_fade(tmp_path):
    """A progressive GAN killed after the first save of a fade ends with the bits of an unbroken run."""
    cache, whole, broken = tmp_path / "compiled", tmp_path / "whole", tmp_path / "broken"
    process = start("progressive_gan", broken, cache=cache)
    while process.poll() is None and not any(broken.glob("checkpoints/*faded-in/step_????????")):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (broken / "results.json").exists()
    steps = [int(path.name.split("_")[1]) for path in broken.glob("checkpoints/*faded-in/step_????????")]
    assert 0 < max(steps) < 270, steps
    for out, flags in ((whole, ()), (broken, ("--resume",))):
        _, err = (process := start("progressive_gan", out, *flags, cache=cache)).communicate(timeout=900)
        assert process.returncode == 0, err
    assert results(broken) == results(whole)
    assert draws(broken) == draws(whole) and any("faded-in" in stage for stage, _ in draws(whole))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_experiments_end_as_unbroken_ones(tmp_path, vectors, name):
    """Every kill is followed by --resume, which must never fail; a third of the kills wait for figures or results."""
    flags = ("--dataset", str(vectors)) if name == "bayesian_gan" else ()
    cache, whole, broken, rng = tmp_path / "compiled", tmp_path / "whole", tmp_path / "broken", random.Random(name)
    begun = time.monotonic()
    _, err = (process := start(name, whole, *flags, cache=cache)).communicate(timeout=900)
    assert process.returncode == 0, err
    seconds, kills, ends = (time.monotonic() - begun) / 2, 0, 0

    def compare():
        assert results(broken) == results(whole)
        assert draws(broken) == draws(whole) and len(draws(whole)) > 0
        assert folder_is_tidy(broken)

    while kills < NUM_KILLS:
        resume = ("--resume",) if (broken / "config.json").exists() else ()
        begun = time.monotonic()
        process = start(name, broken, *flags, *resume, cache=cache if kills % 4 else None)
        until = time.monotonic() + rng.uniform(0, seconds)
        waits = (kills + ends) % 3 == 2
        while process.poll() is None and time.monotonic() < until + (60 if waits else 0):
            if waits and (any(broken.glob("figures/*")) or any(broken.glob("*results.json*"))):
                time.sleep(rng.uniform(0, 0.15))
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            print(f"{name}: killed {kills} times, {ends} runs to their end", flush=True)
        else:
            assert process.returncode == 0, err
            seconds = min(seconds, time.monotonic() - begun)  # that of a run that need not compile is much less
            compare()
            shutil.rmtree(broken)
            ends += 1
    resume = ("--resume",) if (broken / "config.json").exists() else ()
    _, err = (process := start(name, broken, *flags, *resume, cache=cache)).communicate(timeout=900)
    assert process.returncode == 0, err
    compare()
