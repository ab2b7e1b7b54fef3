"""MC dropout: a loss with which training with dropout is variational inference over the weights.

    F(w) = -1/n sum_i log p(y_i | x_i, dropped w) + 1/N [ sum_layers l^2 / (2 keep) |W|^2 + l^2 / 2 |b|^2 ]

w consists of the kernels W and the biases b. The second term is, up to a constant, the KL divergence to the prior
N(0, l^-2) of kernels whose input rows are dropped with probability `rate`, and keep = 1 - rate. The factor 1/keep
arises because Flax's `nn.Dropout` divides the remaining inputs by keep. The noise precision tau of the likelihood
N(y; f(x), 1/tau) determines the weight decay and vice versa (`precision` and `weight_decay`). Predictions are averages
over forward passes with dropout, for which random keys take the place of posterior draws:

    evaluation.predict(lambda rng_key, x: model.apply({"params": params}, x, rngs={"dropout": rng_key}), keys, x)

Sources: Gal & Ghahramani, "Dropout as a Bayesian approximation", ICML 2016, equations 2 to 8; Gal, Hron & Kendall,
"Concrete dropout", NeurIPS 2017, for the 1/keep. Read `evaluation/predictive.py` next.
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
    """Negative evidence lower bound of a network with dropout, to be minimised over its weights.

        F(w) = -1/n sum_i log p(y_i | x_i, dropped w) + 1/N [ sum_layers l^2 / (2 keep) |W|^2 + l^2 / 2 |b|^2 ]

    w consists of the kernels W and the biases b of the layers, i runs over the n examples of a batch, and keep is 1
    minus the dropout rate of a layer.

    Args:
      log_likelihood: `(params, rng_key, example) -> scalar` or `(scalar, aux)`, for one example. It draws the dropout
        mask from its key.
      num_data: N, the number of examples in the data set.
      rates: probability that an input of a layer is dropped, in [0, 1): one number for all kernels, or a mapping from
        patterns of the kernels' paths to numbers (`tree.match_paths`). Leaves with one axis (biases) are never dropped.
      length_scale: l, for the prior N(0, l^-2) on the weights.
      weights: `params -> weights`, which selects the parameters with the prior, such as all except a learned
        noise precision.

    Returns:
      `(params, rng_key, batch) -> (loss, aux)`. `aux` contains the aux of the likelihood, "nll" (nats per example) and
      "kl" (nats for the whole data set, up to a constant).

    Raises:
      ValueError: if `num_data` or `length_scale` is not positive, or a rate is not in [0, 1). The returned loss
        raises it if a kernel matches no pattern of `rates`, a pattern is the first match of no kernel, or the
        likelihood of one example is not a scalar.
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
    """Noise precision tau that corresponds to a weight decay lambda.

        tau = keep l^2 / (2 N lambda)

    The relation holds for the loss 1/n sum |y - f|^2 / 2 + lambda |W|^2 of predictions f, with dropout that does not
    divide by keep. Source: Gal & Ghahramani, "Dropout as a Bayesian approximation", ICML 2016, equation 7.

    Args:
      weight_decay: lambda, positive.
      rate: dropout rate, 1 - keep, in [0, 1).
      length_scale: l, for the prior N(0, l^-2) on the weights, positive.
      num_data: N, the number of examples in the data set.

    Returns:
      tau, in inverse squared units of the targets.

    Raises:
      ValueError: if `rate` is not in [0, 1) or another argument is not positive and finite.
    """
    _check_rate(rate)
    checks.positive(weight_decay=weight_decay, length_scale=length_scale, num_data=num_data)
    return (1 - rate) * length_scale**2 / (2 * num_data * weight_decay)


def weight_decay(precision: float, *, rate: float, length_scale: float, num_data: int) -> float:
    """Weight decay lambda that corresponds to a noise precision tau.

        lambda = keep l^2 / (2 N tau)

    It is the inverse of `precision`, whose docstring states the loss and the source.

    Args:
      precision: tau, positive, in inverse squared units of the targets.
      rate: dropout rate, 1 - keep, in [0, 1).
      length_scale: l, for the prior N(0, l^-2) on the weights, positive.
      num_data: N, the number of examples in the data set.

    Returns:
      lambda.

    Raises:
      ValueError: if `rate` is not in [0, 1) or another argument is not positive and finite.
    """
    _check_rate(rate)
    checks.positive(precision=precision, length_scale=length_scale, num_data=num_data)
    return (1 - rate) * length_scale**2 / (2 * num_data * precision)


def _check_rate(rate: float) -> None:
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate must lie in [0, 1); got {rate}")
