"""ACGAN: the second head in both losses, and the rows of a run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.types import Given
from experiments import acgan
from experiments.harness.provenance import RESULTS
from tests.experiments.test_every_experiment import call
from tests.experiments.test_gan import keys
from tests.experiments.tiny import TINY

pytestmark = pytest.mark.usefixtures("compile_once")


def test_the_second_head_is_in_both_losses():
    """The class weight moves both losses, in proportion; the generator's image depends on its class."""
    x, y = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (5, 6, 6, 1)), jnp.float32), jnp.arange(5) % 3

    def losses(weight):
        config = acgan.Config(
            latent_dim=3, generator_features=(4,), discriminator_features=(4,), discriminator_hidden=(), kernel_size=3,
            batch_size=5, class_weight=weight,
        )  # fmt: skip
        net = acgan.networks(config, (6, 6, 1), 3)
        params = jax.tree.map(lambda w: 10 * w, jax.jit(net.init)(jax.random.key(1)))
        given = Given({"x": x, "y": y}, params)
        values = acgan.losses(config, net, 3)
        made = net.generate(params["generator"], jnp.zeros((2, 3)), jnp.array([0, 1]))
        assert np.abs(made[0] - made[1]).max() > 1e-3
        return {player: float(values[player](params[player], jax.random.key(2), given)[0]) for player in values}

    none, one, two = (losses(weight) for weight in (0.0, 1.0, 2.0))
    for player in none:
        assert one[player] - none[player] > 1e-3
        np.testing.assert_allclose(two[player] - none[player], 2 * (one[player] - none[player]), rtol=1e-3)


@pytest.mark.slow
def test_rows_have_the_keys_of_the_published_ones(tmp_path):
    published = json.loads((RESULTS / "acgan-mnist-mnist.json").read_text())["rows"]
    call("acgan", *TINY["acgan"].flags, "--judge", "digits", "--out", tmp_path / "run")
    assert keys(json.loads((tmp_path / "run" / "results.json").read_text())["rows"]) == keys(published)
