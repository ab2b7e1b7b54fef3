"""The judge on images of known quality: distances in order, a resumed run, several devices."""

import json

import numpy as np
import pytest

from experiments import judge_images
from experiments.harness.provenance import RESULTS
from tests.experiments.test_every_experiment import call
from tests.experiments.test_gan import keys

pytestmark = pytest.mark.usefixtures("compile_once")
FLAGS = ("--num-steps", 60, "--noises", 0.2, 0.6, "--blurs", 1, 3, "--dataset")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two kinds of striped images, 100 to train on and 60 to test on."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "images.npz"
    y = np.arange(160) % 2
    x = random.uniform(0.6, 1, (160, 8, 8)) * np.where(
        y[:, None, None], np.arange(8)[:, None] % 4 < 2, np.arange(8) < 4
    )
    np.savez(
        path, x_train=x[:100].astype(np.float32), y_train=y[:100], x_test=x[100:].astype(np.float32), y_test=y[100:]
    )
    return str(path)


def run(out, *flags):
    """The rows of a run, and their values by (kind, level, measure)."""
    call("judge_images", *FLAGS, *flags, "--out", out)
    rows = json.loads((out / "results.json").read_text())["rows"]
    return rows, {(row.get("method"), row.get("level"), row["measure"]): row["value"] for row in rows}


@pytest.mark.slow
def test_a_run_orders_known_images_and_resumes(images, tmp_path, capsys):
    rows, values = run(tmp_path / "run", images)
    assert values[None, None, "accuracy %"] == 100
    assert values[None, None, "FCD rises with noise"] == values[None, None, "FCD rises with blur"] == 1
    assert values["training copies", None, "FCD"] == pytest.approx(0, abs=1e-6)
    assert values["training copies", None, "recall"] == 1
    assert values["one class", None, "FCD"] > 3 * values["test images", None, "FCD"]
    assert "| blur                          | 3     |" in capsys.readouterr().out
    for figure in ("distance", "images"):
        assert (tmp_path / "run" / "figures" / f"{figure}.png").exists()
    for part in ("judge.npz", "blur-3.npz"):
        (tmp_path / "run" / "parts" / part).unlink()
    assert run(tmp_path / "run", images, "--resume")[0] == rows
    published = json.loads((RESULTS / "judge_images-quick-digits.json").read_text())["rows"]
    strip = lambda rows: keys([{k: v for k, v in row.items() if k not in ("level", "judge", "sha256")} for row in rows])  # noqa: E731
    assert strip(rows) == strip(published)


def test_a_broken_order_is_noticed():
    distances = {("test images", None): 1.0, ("noise", 0.1): 2.0, ("noise", 0.2): 3.0}
    assert judge_images.rises(distances, "noise", (0.2, 0.1))
    distances["noise", 0.1] = 0.9
    assert not judge_images.rises(distances, "noise", (0.1, 0.2))


@pytest.mark.slow
@pytest.mark.parametrize("where", [(), ("--data-devices", "2")], ids=["one", "batch"])
def test_two_devices_give_the_same_table(images, tmp_path, where):
    (_, one), (_, two) = run(tmp_path / "one", images), run(tmp_path / "two", images, "--devices", 2, *where)
    assert two == pytest.approx(one, rel=0.02, abs=0.02)  # weights are stored in float16
