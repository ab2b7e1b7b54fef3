"""Bayes by Backprop on images: options, averages, pruning, and an interruption within the training of posteriors."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import posteriors
from bayesjax.training import MetricsFile
from experiments import bayes_by_backprop
from experiments.shared.classification import Images
from tests.experiments.test_every_experiment import call, rows
from tests.experiments.tiny import TINY

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two kinds of 8 x 8 images: the left half or the right half is bright."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "images.npz"
    x = (np.arange(60)[:, None, None] % 2 == (np.arange(8) < 4)[:, None]) * random.uniform(0.8, 1, (60, 8, 8))
    y = np.arange(60) % 2
    np.savez(path, x_train=x[:40].astype(np.float32), y_train=y[:40], x_test=x[40:].astype(np.float32), y_test=y[40:])
    return str(path)


def test_probabilities_are_averaged_over_keys():
    """`average` is the mean of the softmax over all keys, the first and the last included."""
    logits = lambda position, key, x: position * jax.random.normal(key, (len(x), 3))  # noqa: E731
    keys, x = jax.random.split(jax.random.key(0), 4), jnp.zeros((2, 1))
    expected = np.mean([jax.nn.softmax(logits(2.0, key, x)) for key in keys], axis=0)
    np.testing.assert_allclose(bayes_by_backprop.average(logits, 2.0, keys, x), expected, rtol=1e-6)


def test_pruning_is_compared_with_all_weights():
    """Removing a weight of 0 does not change the error; removing both positive weights raises it from 0 to 50 %."""
    mean = {"weights": jnp.array([-4.0, 3.0, 3.0, 0.0])}  # the logit of the second class is their sum times x
    variational = posteriors.MeanFieldParams(mean, {"weights": jnp.full(4, -5.0)})

    def mean_logits(position, rng_key, x):
        del rng_key
        return jnp.stack([jnp.full(len(x), 0.5), x[:, 0] * position.mean["weights"].sum()], axis=1)

    network = bayes_by_backprop.Network(lambda key: None, mean_logits, mean_logits, mean_logits, is_random=False)
    test_set = Images(np.array([[0.0], [1.0]], np.float32), np.array([0, 1]))
    config = bayes_by_backprop.Config(removed=(0.25, 0.75))
    trained = [{"position": variational._asdict()}]
    measures = bayes_by_backprop.evaluate_pruned(config, network, trained, [0], test_set)
    assert {key: results[0]["error %"] for key, results in measures.items()} == {"0": 0.0, "0.25": 0.0, "0.75": 50.0}
    assert [results[0]["rise in error %"] for results in measures.values()] == [0.0, 0.0, 50.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--kl-schedule", "blundell", "--estimator", "weights", "--methods", "bbb_mixture"),
        ("--estimator", "local", "--methods", "bbb_gaussian", "--num-validation", "9"),
    ],
)
def test_options(flags, images, tmp_path, capsys):
    """Each schedule of the KL divergence and each estimator runs and prunes."""
    small = ("--dataset", images, "--widths", 8, "--num-epochs", 2, "--batch-size", 20, "--num-draws", 3)
    call("bayes_by_backprop", *small, *flags, "--out", tmp_path / "run")
    assert "% removed" in capsys.readouterr().out
    assert (tmp_path / "run" / "figures" / "signal_to_noise.png").read_bytes().startswith(b"\x89PNG")


def steps(folder):
    """The steps that the training of the posterior wrote, in units of an epoch."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["stage"].startswith("bbb")]
    return [step / steps[0] for step in steps]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bayes_by_backprop", "bayesian_rnn"])
def test_an_interruption_within_a_training(name, tmp_path, monkeypatch):
    """After Ctrl-C in an epoch, the optimiser, the order of the data and an LSTM's state continue exactly."""
    monkeypatch.setattr(sys.modules["bayesjax.training.run"], "MAX_CHUNK", 1)  # one epoch per chunk
    method = "bbb_mixture" if name == "bayes_by_backprop" else "bbb"
    flags = (*TINY[name].flags, "--methods", method, "--num-epochs", "3", "--checkpoint-interval", "0")
    write = MetricsFile.write

    def write_and_interrupt(self, row):
        write(self, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(SystemExit) as caught:
        patched.setattr(MetricsFile, "write", write_and_interrupt)
        call(name, *flags, "--out", tmp_path / "broken")
    assert caught.value.code == 130 and steps(tmp_path / "broken") == [1]
    call(name, *flags, "--out", tmp_path / "broken", "--resume")
    assert steps(tmp_path / "broken") == [1, 2, 3]
    call(name, *flags, "--out", tmp_path / "whole")
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
