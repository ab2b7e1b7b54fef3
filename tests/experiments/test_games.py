"""The game of two players: the constraint of a critic, the end of the warm-up, the draws that generate."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels
from experiments import gan
from experiments.harness import Run
from experiments.shared import games

pytestmark = pytest.mark.usefixtures("compile_once")
TINY = gan.Config(hidden=(6,), latent_dim=3, batch_size=8)


def test_a_sampler_starts_at_the_end_of_the_warm_up(tmp_path):
    """`start` is where Adam's stage ends, which the same stage alone shows, and differs from all draws.

    The steps of the evaluations count those of the warm-up, 3 + 4, of which one is dropped.
    """
    config = dataclasses.replace(
        TINY, kernel="sghmc", num_steps=7, num_warmup=3, num_evaluations=2, learning_rate=1e-3,
        out=str(tmp_path / "run"),
    )  # fmt: skip
    loss = gan.LOSSES["non_saturating"]
    net = gan.networks(config, loss, (2,))
    stages = games.pair_stages(config, gan.losses(config, loss, net), 64)
    batches = games.minibatches(config, jax.random.key(0), jax.random.normal(jax.random.key(1), (64, 2)))
    played = []
    with Run("gan", config) as run:
        for name, chosen in (("whole", stages), ("warm-up", stages[:1])):
            played.append(games.play_pair(
                run, name, chosen, net.init(jax.random.key(2)), batches, rng_key=jax.random.key(3),
                evaluate=lambda params: jnp.zeros(()),
            ))  # fmt: skip
    whole, warm = played
    chex.assert_trees_all_equal(whole.start, warm.generators)
    assert warm.start is None
    first, draws = jax.tree.leaves(whole.start)[0], jax.tree.leaves(whole.generators)[0]
    assert len(draws) == 2 and all(np.abs(each - first[0]).max() > 0 for each in draws)
    assert len(jax.tree.leaves(whole.discriminators)[0]) == 2
    np.testing.assert_array_equal(whole.steps, [1, 2, 3, 5, 7])
    assert whole.evaluations.shape == (5,) and whole.aux["discriminator"]["real"].shape == (5,)


def test_the_constraint_holds_after_adam():
    """Adam's critic stays inside the bound; without the constraint its weights, which begin at He's scale, do not."""
    config, loss = dataclasses.replace(TINY, num_steps=20), gan.LOSSES["wasserstein"]
    net = gan.networks(config, loss, (2,))
    x = jax.random.normal(jax.random.key(3), (1, 8, 2))
    for constraint, is_inside in ((kernels.clip_weights(config.clip), True), (None, False)):
        (stage,) = games.pair_stages(config, gan.losses(config, loss, net), 100, constraint=constraint)
        state = stage.kernel.init(net.init(jax.random.key(0)), jax.random.key(1))
        state, _ = jax.jit(stage.kernel.step)(jax.random.key(2), state, x)
        largest = max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(state.position["discriminator"]))
        assert bool(largest <= config.clip + 1e-6) == is_inside


@pytest.mark.parametrize("kernel", ["adam", "sghmc"])
def test_notes_count_the_steps_that_are_run(kernel):
    """Steps after the last evaluation are dropped, in each stage."""
    config = {"kernel": kernel, "num_steps": 25, "num_warmup": 11, "num_evaluations": 4}
    expected = {"adam": "24 steps of Adam", "sghmc": "10 steps of Adam and 12 steps of SGHMC"}
    assert games.describe_steps(config) == expected[kernel]


@pytest.mark.slow
def test_minibatches_have_an_axis_of_steps_and_of_games():
    """Leaves are `[games, discriminator_steps, batch_size, ...]`; games see other data at the same step."""
    config, x = dataclasses.replace(TINY, batch_size=4, discriminator_steps=2), np.arange(40.0)[:, None]
    assert games.minibatches(config, jax.random.key(0), x)(jnp.asarray(0)).shape == (2, 4, 1)
    batch = games.minibatches(config, jax.random.key(0), x, 3)(jnp.asarray(0))
    assert batch.shape == (3, 2, 4, 1) and not np.allclose(batch[0], batch[1])
    with pytest.raises(ValueError, match="--batch-size times --discriminator-steps must be at most 7"):
        games.minibatches(config, jax.random.key(0), x[:7])
