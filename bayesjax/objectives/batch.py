"""Minibatch loss: the mean over a batch of an objective that is written for one example.

    loss(params, rng_key, batch) = 1/n sum_i f(params, rng_key_i, batch_i)

f returns one scalar for one example. A model with several outputs must sum its log likelihood over them, because a mean
would divide the log likelihood by the number of outputs. If f returns an array, the loss raises a ValueError. Read
`posteriors/log_posterior.py` for the corresponding log density, which is a sum over the data set.
"""

from collections.abc import Callable

import jax

from bayesjax import axes, checks, tree
from bayesjax.types import Array, Params, PRNGKey, PyTree


def batch_mean(objective: Callable) -> Callable[[Params, PRNGKey, PyTree], tuple[Array, PyTree]]:
    """Turns an objective f of one example into a minibatch loss.

        loss(params, rng_key, batch) = 1/n sum_i f(params, rng_key_i, batch_i)

    Args:
      objective: f, `(params, rng_key, example) -> scalar` or `(scalar, aux)`, for one example without a batch axis.

    Returns:
      `(params, rng_key, batch) -> (mean scalar, mean aux)`. Every leaf of `batch` has a leading batch axis, and each
      example has its own key. `aux` is an empty dict if the objective returns a scalar.

    Raises:
      ValueError: the returned loss raises it if the objective of one example does not return a scalar, or the leaves
        of `batch` differ in the length of their leading axis.
    """
    scalar_objective = checks.scalar_valued(objective, "the objective of one example")

    def loss(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        keys = axes.local_keys(rng_key, tree.leading_axis(batch, "batch"), axes.DATA)
        out = jax.vmap(scalar_objective, in_axes=(None, 0, 0))(params, keys, batch)
        value, aux = tree.value_and_aux(out)
        return tree.widen(value).mean(), jax.tree.map(lambda leaf: leaf.mean(axis=0), aux)

    return loss
