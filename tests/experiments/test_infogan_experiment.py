"""InfoGAN: codes of their prior, the information in both losses, the code as a classifier, the rows of games."""

import dataclasses
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.objectives import infogan as infogan_objective
from bayesjax.objectives.infogan import Code
from bayesjax.types import Given
from experiments import infogan
from experiments.harness import report
from experiments.harness.provenance import RESULTS
from tests.experiments.test_every_experiment import call
from tests.experiments.test_gan import keys
from tests.experiments.tiny import TINY

pytestmark = pytest.mark.usefixtures("compile_once")


def test_a_code_stands_for_the_class_that_most_of_its_images_have():
    """By hand; a code without images stands for none, two codes may stand for one class."""
    codes, labels = np.array([0, 0, 0, 1, 1, 3, 3, 3]), np.array([2, 2, 1, 0, 0, 2, 1, 2])
    np.testing.assert_array_equal(infogan.assign(codes, labels, 5, 3), [2, 0, -1, 2, -1])


def test_codes_are_of_their_prior():
    """Every category equally often and moments of U(-1, 1), within 5 standard errors: false alarms below 1e-5."""
    config, num = infogan.Config(latent_dim=2, num_codes=3, num_continuous=1), 3000
    noise, code = infogan.draw_code(config, jax.random.key(0), num)
    assert noise.shape == (num, 2) and code.continuous.shape == code.categorical.shape == (num, 1)
    counts = np.bincount(code.categorical[:, 0])
    assert counts.shape == (3,) and np.abs(counts - 1000).max() < 5 * math.sqrt(num * 2 / 9)
    assert abs(np.mean(code.continuous)) < 5 / math.sqrt(3 * num)
    assert abs(np.mean(code.continuous**2) - 1 / 3) < 5 * math.sqrt(4 / 45 / num)


@pytest.mark.slow
def test_a_code_that_small_movements_do_not_change():
    """The weight adds minus the information to D's loss alone; 0 leaves the game as it is."""
    x, key = np.random.default_rng(0).uniform(-1, 1, (6, 6, 6, 1)).astype(np.float32), jax.random.key(0)

    def evaluate(weight):
        config = infogan.Config(
            latent_dim=3, num_codes=3, generator_features=(4,), discriminator_features=(4,), discriminator_hidden=(6,),
            kernel_size=3, code_hidden=(4,), discriminator_norm="none", invariance_weight=weight, batch_size=6,
        )  # fmt: skip
        net = infogan.networks(config, x.shape[1:])
        params, losses = jax.jit(net.init)(jax.random.key(1)), infogan.losses(config, net)
        params = jax.tree.map(lambda w: 30 * w, params)

        def loss(player, other):
            compiled = jax.jit(losses[player])  # alone, so that the generator's is the same program of both weights
            return compiled(params[player], key, Given(x, {other: params[other]}))

        value, aux = loss("discriminator", "generator")
        logits = jax.jit(net.discriminate)(params["discriminator"], x)[1].logits[0]
        unmoved = jax.jit(infogan_objective.invariant_information)(logits, logits)
        return value, loss("generator", "discriminator")[0], aux, unmoved

    (plain, generator_loss, without, _), (value, same, aux, unmoved) = evaluate(0.0), evaluate(2.0)
    assert "invariant" not in without and 1e-3 < aux["invariant"] < math.log(3)
    np.testing.assert_allclose(value, plain - 2 * aux["invariant"], atol=1e-5)
    assert same == generator_loss
    assert abs(float(aux["invariant"]) - float(unmoved)) > 1e-4  # that of the same images, not moved, differs


def test_a_traversal_moves_one_code_at_a_time():
    """Rows are categories; each continuous code in turn takes the values, the other is 0, the noise is the same."""
    config, values = infogan.Config(latent_dim=2, num_codes=3), infogan.VALUES

    def generate(params, noise, code: Code):
        return jnp.concatenate([noise, code.categorical.astype(float), code.continuous], axis=1)

    net = infogan.Networks(lambda key: {}, generate, lambda params, x: (x, x))
    pictures = infogan.traverse(config, net, {}, jax.random.key(0))
    assert pictures.shape == (3, 2, len(values), 5)
    assert np.ptp(pictures[..., :2].reshape(-1, 2), axis=0).max() == 0
    np.testing.assert_array_equal(pictures[:, 1, 2, 2], [0, 1, 2])
    zeros = np.zeros_like(values)
    np.testing.assert_array_equal(pictures[1, 0, :, 3:], np.stack([values, zeros], axis=1))
    np.testing.assert_array_equal(pictures[1, 1, :, 3:], np.stack([zeros, values], axis=1))
    none = infogan.Config(latent_dim=2, num_codes=3, num_continuous=0)
    assert infogan.traverse(none, net, {}, jax.random.key(0)).shape == (3, 0, len(values), 3)


def test_the_information_is_in_both_losses():
    """Lambda moves both losses by minus I_Q, of categories and of numbers, each by its own weight."""
    settings: dict[str, Any] = dict(
        latent_dim=3, num_codes=3, generator_features=(4,), discriminator_features=(4,), discriminator_hidden=(),
        code_hidden=(), kernel_size=3, batch_size=5,
    )  # fmt: skip
    plain = infogan.Config(**settings, information_weight=0.0, continuous_weight=0.0)
    config = infogan.Config(**settings, information_weight=2.0, continuous_weight=0.5)
    net = infogan.networks(config, (6, 6, 1))
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.normal(scale=0.3, size=leaf.shape), jnp.float32), shapes)

    def loss(config, player, params):
        others = {name: params[name] for name in params if name != player}
        given = Given(jnp.zeros((5, 6, 6, 1)), others)
        return infogan.losses(config, net)[player](params[player], jax.random.key(1), given)

    for player in params:
        value = jax.jit(lambda p, player=player: (loss(config, player, p), loss(plain, player, p)))(params)
        (with_code, aux), (without, _) = value
        continuous = (without - with_code - 2 * aux["information"]) / 0.5  # the continuous part of I_Q, with scale 1
        mean_square = 2 * (1 - aux["explained"]) * infogan.VARIANCE  # of two codes together
        expected = -0.5 * mean_square - math.log(2 * math.pi) + 2 * math.log(2)
        np.testing.assert_allclose(continuous, expected, rtol=1e-4, atol=1e-5)
        assert aux["information"] < math.log(3)


def test_rows_of_several_games():
    """The mean of the errors over games, and the test error of the one that is best on training images, not on test."""
    config = infogan.Config(preset="paper", dataset="mnist", num_seeds=2)
    measures = lambda error, stderr, train: {  # noqa: E731
        "error %": {"value": error, "stderr": stderr}, "train error %": {"value": train}, "classes": {"value": 1},
    }  # fmt: skip
    games = {0: {"measures": measures(50.0, 20.0, 20.0)}, 1: {"measures": measures(25.0, 10.0, 30.0)}}
    rows = infogan.summarise(config, games)
    errors = {(row.get("game"), row.get("games")): row for row in rows if row["measure"] == "error %"}
    mean, best = errors[None, "mean"], errors[None, "best on training images"]
    assert mean["value"] == 37.5 and mean["stderr"] == 12.5 and mean["paper"] == 5 and mean["values"] == [50, 25]
    assert (best["seed"], best["value"], best["stderr"]) == (0, 50, 20) and "paper" not in best
    assert errors[1, None]["value"] == 25
    other = infogan.summarise(dataclasses.replace(config, dataset="fashion_mnist"), games)
    assert not any("paper" in row for row in other), "the paper has no error for these data"
    single = infogan.summarise(infogan.Config(), {3: games[1]})
    assert single[-1]["games"] == "mean" and single[-1]["stderr"] == 10 and "paper" not in single[-1]


@pytest.mark.slow
def test_rows_have_the_keys_of_the_published_ones(tmp_path):
    """A tiny run of two games leaves rows with the keys of the published file of two games."""
    published = json.loads((RESULTS / "infogan-mnist-mnist.json").read_text())
    call("infogan", *TINY["infogan"].flags, "--num-seeds", 2, "--judge", "digits", "--out", tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    ignored = ("ceiling", "seed")  # the game that is chosen may be the other one
    strip = lambda rows: keys([{k: v for k, v in row.items() if k not in ignored} for row in rows])  # noqa: E731
    assert strip(rows) == strip(published["rows"])
    text = report.render(infogan.TABLES, [published])
    assert "| infogan         | 0    | 32.25 ± 0.47" in text and "| mean                    | 32.80 ± 0.55" in text
