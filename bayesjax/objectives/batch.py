"""From one example to a batch: objectives are written for one example and averaged here.

    loss(params, rng_key, batch) = 1/n sum_i f(params, rng_key_i, batch_i)

f returns one scalar for one example. A model with several outputs sums its log likelihood over them, since their mean
would be the log likelihood divided by their number. An array is therefore a ValueError and is never averaged.
`posteriors/log_posterior.py` does the same for a log density, which is a sum over the data set.
"""

from collections.abc import Callable

import jax

from bayesjax import axes, checks, tree
from bayesjax.types import Array, Params, PRNGKey, PyTree


def batch_mean(objective: Callable) -> Callable[[Params, PRNGKey, PyTree], tuple[Array, PyTree]]:
    """Turns a one-example objective into a minibatch loss.

    Args:
      objective: `(params, rng_key, example) -> scalar` or `(scalar, aux)`, of one example without a batch axis.

    Returns:
      `(params, rng_key, batch) -> (mean scalar, mean aux)`; every leaf of `batch` has a leading batch axis, and each
      example has a key of its own. `aux` is an empty dict if the objective returns a scalar.

    Raises:
      ValueError: by the loss, if the objective returns an array with axes for one example, or the leaves of `batch`
        differ in their leading axis.
    """
    of_one = checks.scalar_valued(objective, "the objective of one example")

    def loss(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        keys = axes.local_keys(rng_key, tree.leading_axis(batch, "batch"), axes.DATA)
        out = jax.vmap(of_one, in_axes=(None, 0, 0))(params, keys, batch)
        value, aux = tree.value_and_aux(out)
        return tree.widen(value).mean(), jax.tree.map(lambda leaf: leaf.mean(axis=0), aux)

    return loss
