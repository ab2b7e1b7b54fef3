"""Standard posteriors for evaluating samplers, written as log densities on R^d.

    target = TARGETS["funnel"]()
    kernel = kernels.hmc(target.density, step_size=0.1, num_integration_steps=10)
    state = kernel.init(target.start(jax.random.key(0)), jax.random.key(1))

Each target has named quantities in the units of its paper, and their exact moments where these are known. Sources:
Rubin, "Estimation in parallel randomized experiments", 1981, with the priors of posteriordb (eight schools); Neal,
"Slice sampling", 2003 (the funnel); the Wisconsin breast cancer data that scikit-learn ships (logistic regression).
Read `experiments/standard_posteriors.py` next, which samples all of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import models, posteriors

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
DIM, CORRELATION = 100, 0.9
NOISE, GRID = 0.1, np.linspace(-2.0, 2.0, 17)


class Target(NamedTuple):
    """A target distribution and the quantities whose moments are estimated.

    Attributes:
      logdensity: `position -> scalar`, the log density up to a constant.
      start: `rng_key -> position`, an overdispersed initial position.
      quantities: `position -> [num]`, the quantities whose moments are estimated.
      names: names of the quantities.
      exact: means and standard deviations of the quantities, `[num]` each; None if unknown.
      reference: name of the target whose long run is the reference for the same quantities; empty for this target.
      acceptance: smallest target acceptance probability that warm-up should use; 0 for no lower limit.
    """

    logdensity: Callable[[Any], jax.Array]
    start: Callable[[jax.Array], Any]
    quantities: Callable[[Any], jax.Array]
    names: tuple[str, ...]
    exact: tuple[np.ndarray, np.ndarray] | None = None
    reference: str = ""
    acceptance: float = 0.0

    def density(self, position: Any, rng_key: jax.Array, batch: Any) -> jax.Array:
        """The log density with the signature that kernels expect."""
        del rng_key, batch
        return self.logdensity(position)


def overdispersed(rng_key: jax.Array, *shape: int) -> jax.Array:
    """Draws uniformly from (-2, 2), as Stan draws initial values.

    Args:
      rng_key: consumed.
      shape: shape of the draw.
    """
    return jax.random.uniform(rng_key, shape, minval=-2.0, maxval=2.0)


def normal(x: jax.Array, mean: Any = 0.0, scale: Any = 1.0) -> jax.Array:
    """Sum over elements of log N(x; mean, scale^2), a scalar."""
    return jnp.sum(jax.scipy.stats.norm.logpdf(x, mean, scale))


def eight_schools(*, is_centred: bool) -> Target:
    """Eight schools: a hierarchical model of the effects theta_j of coaching in eight schools.

        mu ~ N(0, 5^2),    tau ~ half-Cauchy(5),    theta_j ~ N(mu, tau^2),    y_j ~ N(theta_j, s_j^2)

    y_j are the observed effects (EFFECTS) and s_j their standard errors (ERRORS). The parameters are mu, log tau and,
    in the centred form, theta. The posterior of the centred form is a funnel. The non-centred form has (theta - mu) /
    tau instead of theta. Even a long run of the centred form is biased, because it avoids the neck of the funnel. A
    long run of the non-centred form is therefore the reference for both forms. With a target acceptance probability of
    0.8, steps of the non-centred form occasionally diverge.

    Args:
      is_centred: whether the parameters are theta instead of (theta - mu) / tau.
    """

    def theta(position: dict) -> jax.Array:
        mu, tau = position["mu"], jnp.exp(position["log_tau"])
        return position["theta"] if is_centred else mu + tau * position["theta"]

    def logdensity(position: dict) -> jax.Array:
        mu, log_tau = position["mu"], position["log_tau"]
        tau = jnp.exp(log_tau)
        # The last term is the Jacobian of log tau, log d tau / d log tau.
        prior = normal(mu, 0.0, 5.0) - jnp.log1p((tau / 5) ** 2) + log_tau
        effects = normal(position["theta"], mu, tau) if is_centred else normal(position["theta"])
        return prior + effects + normal(jnp.asarray(EFFECTS), theta(position), jnp.asarray(ERRORS))

    def start(rng_key: jax.Array) -> dict:
        keys = jax.random.split(rng_key, 3)
        return {"mu": overdispersed(keys[0]), "log_tau": overdispersed(keys[1]), "theta": overdispersed(keys[2], 8)}

    def quantities(position: dict) -> jax.Array:
        return jnp.concatenate([position["mu"][None], jnp.exp(position["log_tau"])[None], theta(position)])

    names = ("mu", "tau", *(f"theta {j}" for j in range(8)))
    if is_centred:
        return Target(logdensity, start, quantities, names, reference="schools_noncentred")
    return Target(logdensity, start, quantities, names, acceptance=0.95)


def correlated_gaussian() -> Target:
    """A Gaussian in 100 dimensions with mean 0, whose neighbouring elements have the correlation 0.9.

        Cov(x_i, x_j) = s_i s_j 0.9^|i-j|

    The standard deviations s_i grow geometrically from 0.1 to 10.
    """
    scales = np.logspace(-1, 1, DIM)
    lag = np.abs(np.subtract.outer(np.arange(DIM), np.arange(DIM)))
    covariance = scales[:, None] * CORRELATION**lag * scales
    precision = np.linalg.inv(covariance)

    def logdensity(position: jax.Array) -> jax.Array:
        return -0.5 * position @ jnp.asarray(precision, position.dtype) @ position

    return Target(
        logdensity,
        lambda rng_key: overdispersed(rng_key, DIM),
        lambda position: position,
        tuple(f"x {i}" for i in range(DIM)),
        (np.zeros(DIM), scales),
    )


def logistic_regression() -> Target:
    """Logistic regression of benign against malignant tumours on 30 standardised measurements of 569 tumours.

        y_i ~ Bernoulli(sigmoid(x_i . w)),    w ~ N(0, I)

    y_i is 1 for a benign tumour, and x_i holds its measurements and a 1 for the intercept.
    """
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    x = np.concatenate([(x - x.mean(axis=0)) / x.std(axis=0), np.ones((len(x), 1))], axis=1)

    def logdensity(position: jax.Array) -> jax.Array:
        logits = jnp.asarray(x, position.dtype) @ position
        return normal(position) + jnp.sum(jnp.asarray(y) * logits - jnp.logaddexp(0.0, logits))

    return Target(
        logdensity,
        lambda rng_key: overdispersed(rng_key, x.shape[1]),
        lambda position: position,
        tuple(f"w {i}" for i in range(x.shape[1])),
    )


def funnel() -> Target:
    """Neal's funnel: v ~ N(0, 3^2) and nine x_i ~ N(0, exp(v)).

    No single step size suits both its neck and its mouth.
    """

    def logdensity(position: dict) -> jax.Array:
        return normal(position["v"], 0.0, 3.0) + normal(position["x"], 0.0, jnp.exp(position["v"] / 2))

    def start(rng_key: jax.Array) -> dict:
        v_key, x_key = jax.random.split(rng_key)
        return {"v": overdispersed(v_key), "x": overdispersed(x_key, 9)}

    return Target(logdensity, start, lambda position: position["v"][None], ("v",), (np.zeros(1), np.array([3.0])))


def curve_with_a_gap(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws 40 inputs, with 20 on each side of a gap, and their noisy targets.

        x_i ~ U(-2, -0.7) for the first 20,    x_i ~ U(0.5, 2) for the others,    y_i ~ N(sin(2 x_i), 0.1^2)

    Args:
      random: NumPy's random generator.

    Returns:
      x and y, `[40]` each.
    """
    x = np.concatenate([random.uniform(-2, -0.7, 20), random.uniform(0.5, 2, 20)])
    return x, np.sin(2 * x) + NOISE * random.normal(size=40)


def small_network() -> Target:
    """Bayesian neural network with one hidden layer of 50 tanh units, for the data of `curve_with_a_gap`.

        y_i ~ N(f(x_i; w), 0.1^2),    w ~ N(0, 1 / fan_in) for kernels,    w ~ N(0, 1) for biases

    f(x; w) is the output of the network with the weights w. The quantities are f(x; w) at 17 evenly spaced inputs from
    -2 to 2. Their exact moments are not known.
    """
    x, y = curve_with_a_gap(np.random.default_rng(0))
    model = models.MLP((50, 1), activation=jnp.tanh)
    prior = posteriors.fan_in_gaussian(1.0)

    def values(position: Any, x: np.ndarray) -> jax.Array:
        out: Any = model.apply({"params": position}, jnp.asarray(x, jnp.float32)[:, None])
        return out[:, 0]

    def start(rng_key: jax.Array) -> Any:
        return model.init(rng_key, jnp.zeros((1, 1)))["params"]

    return Target(
        lambda position: prior(position) + normal(values(position, x), jnp.asarray(y, jnp.float32), NOISE),
        start,
        lambda position: values(position, GRID),
        tuple(f"f({x:g})" for x in GRID),
    )


TARGETS: dict[str, Callable[[], Target]] = {
    "schools_centred": lambda: eight_schools(is_centred=True),
    "schools_noncentred": lambda: eight_schools(is_centred=False),
    "gaussian": correlated_gaussian,
    "logistic": logistic_regression,
    "funnel": funnel,
    "network": small_network,
}
"""Functions that construct the targets, by name."""
