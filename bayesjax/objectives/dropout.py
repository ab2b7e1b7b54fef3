"""MC dropout: the loss under which training with dropout is variational inference over the weights.

    F(w) = -1/n sum_i log p(y_i | x_i, dropped w) + 1/N [ sum_layers l^2 / (2 keep) |W|^2 + l^2 / 2 |b|^2 ]

The second part is the divergence from the prior N(0, l^-2) to weights W whose input rows are dropped, up to a constant;
keep = 1 - rate, and the 1/keep is there because Flax's `nn.Dropout` divides what it keeps by keep. The likelihood's
noise precision tau, in log N(y; f(x), 1/tau), then fixes the weight decay that practitioners tune, and the reverse
(`precision`, `weight_decay`). Prediction averages over passes with the dropout on: keys are the draws,

    evaluation.predict(lambda rng_key, x: model.apply({"params": params}, x, rngs={"dropout": rng_key}), keys, x)

Sources: Gal & Ghahramani, "Dropout as a Bayesian approximation", ICML 2016, equations 2 to 8; Gal, Hron & Kendall,
"Concrete dropout", NeurIPS 2017, for the 1/keep.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.objectives.batch import batch_mean
from bayesjax.types import Array, Params, PRNGKey, PyTree


def mc_dropout(
    log_likelihood: Callable,
    *,
    num_data: int,
    rates: float | Mapping[str, float],
    length_scale: float = 1.0,
    weights: Callable[[Params], Params] = lambda params: params,
) -> Callable[[Params, PRNGKey, PyTree], tuple[Array, PyTree]]:
    """The loss of a network with dropout, to be minimised over its weights.

    Args:
      log_likelihood: of one example, `(params, rng_key, example) -> scalar` or `(scalar, aux)`, with the dropout drawn
        from its key.
      num_data: N, the number of examples in the data set.
      rates: the probability that an input of a layer is dropped: one for all kernels, or by pattern of the kernel's
        path (`tree.match_paths`). Leaves of one axis (biases) are never dropped.
      length_scale: l; the prior on the weights is N(0, l^-2).
      weights: those of the parameters that have the prior, e.g. all but a learned precision of the noise.

    Returns:
      `(params, rng_key, batch) -> (loss, aux)`; aux has what the likelihood returned, and under these names "nll" (per
      example) and "kl" (nats of the whole data set, up to a constant).

    Raises:
      ValueError: if `num_data` or `length_scale` is not positive, or a rate is not in [0, 1); by the loss, if `rates`
        do not fit the paths or the likelihood of one example is not a scalar.
    """
    checks.count(num_data=num_data)
    checks.positive(length_scale=length_scale)
    rates = dict(rates) if isinstance(rates, Mapping) else {"*": rates}
    for rate in rates.values():
        _check_rate(rate)
    log_likelihoods = batch_mean(log_likelihood)

    def divergence(params: Params) -> Array:
        leaves = tree.leaves_by_path(tree.widen(params))
        kernels = [path for path, leaf in leaves.items() if leaf.ndim > 1]
        keep = {
            path: 1 - rates[name]
            for path, name in zip(kernels, tree.match_paths(kernels, tuple(rates), "rates"), strict=True)
        }
        squares = [jnp.sum(leaf**2) / keep.get(path, 1) for path, leaf in leaves.items()]
        return 0.5 * length_scale**2 * tree.sum_leaves(squares)

    def loss(params: Params, rng_key: PRNGKey, batch: PyTree) -> tuple[Array, PyTree]:
        fit, aux = log_likelihoods(params, rng_key, batch)
        kl = divergence(weights(params))
        return kl / num_data - fit, {**aux, "nll": -fit, "kl": kl}

    return loss


def precision(weight_decay: float, *, rate: float, length_scale: float, num_data: int) -> float:
    """The noise's tau = keep l^2 / (2 N lambda), for which a weight decay lambda is the prior's.

    For the loss 1/n sum |y - f|^2 / 2 + lambda |W|^2, and dropout that does not divide by keep. Source: Gal &
    Ghahramani (2016), equation 7.

    Raises:
      ValueError: if an argument is out of range.
    """
    _check_rate(rate)
    checks.positive(weight_decay=weight_decay, length_scale=length_scale, num_data=num_data)
    return (1 - rate) * length_scale**2 / (2 * num_data * weight_decay)


def weight_decay(precision: float, *, rate: float, length_scale: float, num_data: int) -> float:
    """The decay lambda = keep l^2 / (2 N tau): `precision` the other way round."""
    _check_rate(rate)
    checks.positive(precision=precision, length_scale=length_scale, num_data=num_data)
    return (1 - rate) * length_scale**2 / (2 * num_data * precision)


def _check_rate(rate: float) -> None:
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate must lie in [0, 1); got {rate}")
