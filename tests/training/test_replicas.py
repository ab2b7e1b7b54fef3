"""The weights of all devices stay equal through penalties that are evaluated in some steps only."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import axes, kernels, training
from bayesjax.objectives import regularisation
from bayesjax.types import Numbered
from tests.training.test_parallel import KEY, NUM_STEPS, POSITION, assert_same, batch


def lazily_penalised(params, rng_key, given):
    """A loss with a penalty on gradients in every third step."""
    x, y = given.batch

    def predict(x):
        return jnp.tanh(x @ params["hidden"]) @ params["out"]

    penalty, _ = regularisation.lazy_penalty(
        lambda: regularisation.batch_r1_penalty(predict, x).mean(), given.step[0], 3
    )
    return jnp.mean((predict(x) - y) ** 2) + penalty


def test_replicas_stay_equal_through_lazy_penalties():
    """The weights on all devices have the same bits and are those of one device. Power: steps without the penalty whose
    gradients are not averaged, a bug of public programs, leave each device with weights of its own."""
    kernel = kernels.optimize(lazily_penalised, optax.adam(1e-2))

    def drifting(rng_key, state, given):
        averaged, info = kernel.step(rng_key, state, given)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(axes, "mean", lambda values, axis: values)
            alone, _ = kernel.step(rng_key, state, given)
        return jax.tree.map(lambda a, b: jnp.where(given.step[0] % 3 == 0, a, b), averaged, alone), info

    def weights(kernel):
        """Copies of the weights on each device after NUM_STEPS steps."""

        def one(state, step):
            return kernel.step(KEY, state, Numbered(jnp.full(16, step), batch()))[0], None

        run = jax.jit(lambda state: jax.lax.scan(one, state, jnp.arange(NUM_STEPS))[0].position)
        position = run(kernel.init(POSITION, KEY))
        leaves = [[np.asarray(shard.data) for shard in leaf.addressable_shards] for leaf in jax.tree.leaves(position)]
        return [jax.tree.unflatten(jax.tree.structure(position), copy) for copy in zip(*leaves, strict=True)]

    copies = weights(training.data_parallel(kernel, 4))
    assert len(copies) == 4 and weights(kernel)[0]["out"].shape == (5,)
    for each in copies:
        jax.tree.map(np.testing.assert_array_equal, each, copies[0])
    assert_same(copies[0], weights(kernel)[0])
    wrong = weights(training.data_parallel(kernel._replace(step=drifting), 4))
    assert not np.array_equal(wrong[0]["out"], wrong[1]["out"])
