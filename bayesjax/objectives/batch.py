"""From one example to a batch: objectives are written for one example and averaged here.

    loss(params, rng_key, batch) = 1/n sum_i f(params, rng_key_i, batch_i)

`posteriors/log_posterior.py` does the same for a log density, which is a sum over the data set.
"""

from collections.abc import Callable

import jax

from bayesjax import axes, tree
from bayesjax.types import Array, Params, PRNGKey, PyTree


def batch_mean(objective: Callable) -> Callable[[Params, PRNGKey, PyTree], tuple[Array, PyTree]]:
    """Turns a one-example objective into a minibatch loss.

    Args:
      objective: `(params, rng_key, example) -> scalar` or `(scalar, aux)`.

    Returns:
      `(params, rng_key, batch) -> (mean scalar, mean aux)`; every leaf of `batch` has a leading batch axis, and each
      example has a key of its own. `aux` is an empty dict if the objective returns a scalar.
    """

    def loss(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        keys = axes.own_keys(rng_key, tree.leading_axis(batch, "batch"), axes.DATA)
        out = jax.vmap(objective, in_axes=(None, 0, 0))(params, keys, batch)
        value, aux = tree.value_and_aux(out)
        return value.mean(), jax.tree.map(lambda leaf: leaf.mean(axis=0), aux)

    return loss
