"""Levels of the Bayesian GAN's settings: equal numbers of updates, fixed noise, diagnostics and paired differences."""

from dataclasses import replace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import bayesian_gan_sampling as sampling
from experiments import bayesian_gan_semisupervised as semisupervised
from experiments.shared import few_labels, populations

pytestmark = pytest.mark.usefixtures("compile_once")


def test_levels_have_equal_numbers_of_updates():
    """Steps times networks are those of the base within one step, and the base is a level of every factor."""
    base = sampling.scaled(sampling.PAPER)
    assert base == sampling.Level("bayes", sampling.PAPER)
    total = sampling.PAPER.num_steps * sum(sampling.PAPER.num_networks)
    for factor in get_args(sampling.Factor):
        levels = sampling.levels(sampling.PAPER, factor)
        assert base in levels.values(), factor
        assert len(set(levels.values())) == len(levels)
        for level in levels.values():
            games = semisupervised.NUM_GAMES if semisupervised.is_repeated(level.method) else 1
            num = games * sum(semisupervised.num_networks(level.config, level.method))
            assert abs(num * level.config.num_steps - total) <= num / 2
            fraction = level.config.num_warmup / level.config.num_steps
            assert fraction == pytest.approx(sampling.PAPER.num_warmup / sampling.PAPER.num_steps, abs=0.01)


def test_noise_comes_from_a_fixed_set():
    """Images of any key are among those of the set's batches, which new noise does not repeat."""
    config = replace(sampling.QUICK, generator_features=(2,), discriminator_features=(2,))
    net = few_labels.networks(config, few_labels.load(config), config.latent_dim)
    params = jax.jit(net.init, static_argnums=(1, 2))(jax.random.key(0), 1, 1)["generator"]
    params = jax.tree.map(lambda leaf: leaf[0], params)

    def distinct(net: populations.Networks) -> int:
        generate = jax.jit(lambda key: net.generate(params, key, 2))
        images = [np.round(generate(jax.random.key(seed)), 5) for seed in range(40)]
        return len({image.tobytes() for image in images})

    assert distinct(net) == 40
    assert distinct(sampling.fix_noise(net, 2, 6)) == 3  # a false alarm, an unseen batch, has probability 3 (2/3)^40
    assert distinct(sampling.fix_noise(net, 2, 1)) == 1


def test_diagnostics_tell_stuck_chains():
    """White noise has R-hat 1 and as many effective draws as draws; a drift has neither. Few draws have none."""
    random = np.random.default_rng(0)
    white = random.normal(size=(200, 2, 30))
    found = sampling.diagnose(white)
    assert found["R-hat"] == pytest.approx(1.0, abs=0.02) and 120 < found["ESS"] < 280
    drift = sampling.diagnose(white + 0.1 * np.arange(200)[:, None, None])
    assert drift["R-hat"] > 1.5 and drift["ESS"] < 20
    assert sampling.diagnose(white[:3]) == {}


def test_differences_are_paired_with_the_base():
    """Scores and their paired differences; the base has none, and neither has a single label draw."""
    base = {name: np.array([10.0, 20.0, 30.0]) for name in ("errors", "nll", "ece")}
    scores = {name: values + np.array([1.0, 1.5, 2.0]) for name, values in base.items()}
    rows = sampling.level_rows(scores, base, factor="noise", level="16")
    values = {row["measure"]: row for row in rows}
    assert len(rows) == 6 and all((row["factor"], row["level"]) == ("noise", "16") for row in rows)
    difference = values["negative log-likelihood minus that of the base"]
    assert difference["value"] == pytest.approx(1.5) and difference["stderr"] == pytest.approx(0.5 / np.sqrt(3))
    assert values["ECE %"]["value"] == pytest.approx(21.5)
    assert len(sampling.level_rows(base, None)) == 3
    single = {name: values[:1] for name, values in base.items()}
    assert len(sampling.level_rows(single, single)) == 3


def test_cycles_keep_draws_of_their_last_part():
    """The step size restarts in every cycle, and only draws at the temperature T are kept."""
    config = replace(semisupervised.PAPER, num_cycles=4)
    cycle = semisupervised.cycle(config, 100)
    steps = jnp.arange(600)
    assert float(cycle.step_size(steps[150])) == pytest.approx(config.learning_rate / 100)
    kept = np.flatnonzero(cycle.sampling_draws(600, thinning=10)) * 10 + 9
    assert len(kept) == 12 and ((kept % 150) >= 120).all()
    assert (np.asarray(cycle.temperature(jnp.asarray(kept))) == 1).all()
