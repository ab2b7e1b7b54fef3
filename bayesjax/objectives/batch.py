"""Minibatch loss: the mean over a batch of an objective that is written for one example.

    loss(params, rng_key, batch) = 1/n sum_i f(params, rng_key_i, batch_i)

f returns one scalar for one example. A model with several outputs must sum its log likelihood over them, because their
mean would divide the log likelihood by their number. An array raises a ValueError and is never averaged. Read
`posteriors/log_posterior.py` for the corresponding log density, which is a sum over the data set.
"""

from collections.abc import Callable

import jax

from bayesjax import axes, checks, tree
from bayesjax.types import Array, Params, PRNGKey, PyTree


def batch_mean(objective: Callable) -> Callable[[Params, PRNGKey, PyTree], tuple[Array, PyTree]]:
    """Turns a one-example objective into a minibatch loss.

    Args:
      objective: `(params, rng_key, example) -> scalar` or `(scalar, aux)`, for one example without a batch axis.

    Returns:
      `(params, rng_key, batch) -> (mean scalar, mean aux)`. Every leaf of `batch` has a leading batch axis, and each
      example has its own key. `aux` is an empty dict if the objective returns a scalar.

    Raises:
      ValueError: from the loss, if the objective returns an array with axes for one example, or the leaves of `batch`
        differ in their leading axis.
    """
    scalar_objective = checks.scalar_valued(objective, "the objective of one example")

    def loss(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        keys = axes.local_keys(rng_key, tree.leading_axis(batch, "batch"), axes.DATA)
        out = jax.vmap(scalar_objective, in_axes=(None, 0, 0))(params, keys, batch)
        value, aux = tree.value_and_aux(out)
        return tree.widen(value).mean(), jax.tree.map(lambda leaf: leaf.mean(axis=0), aux)

    return loss
