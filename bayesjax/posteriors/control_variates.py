"""Control variates, which reduce the variance of minibatch gradients by a correction at a fixed anchor.

    g(theta) = grad log p_batch(theta) - grad log p_batch(anchor) + grad log p(anchor)

log p is the log density of the whole data set, and log p_batch its estimate on a minibatch. g is unbiased for any
anchor. The variance of g equals the variance of the difference between the two batch gradients. It is small if theta is
near the anchor, and grows with |theta - anchor|. Far from the anchor it may exceed the variance of the plain gradient.
The log density

    log p_batch(theta) + <grad log p(anchor) - grad log p_batch(anchor), theta - anchor>

has the gradient g(theta), so it can be passed to every kernel. The anchor should be near the mode. Sources: Baker,
Fearnhead, Fox & Nemeth, "Control variates for stochastic gradient MCMC", 2019; Nagapetyan et al., "The true cost of
stochastic gradient Langevin dynamics", 2017. Read `kernels/sgld.py` next.
"""

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.types import Array, Density, Params, PRNGKey, PyTree


def control_variates(logdensity: Density, anchor: Params, gradient: Params) -> Density:
    """Adds a control variate to the minibatch gradient of a log density.

        log p_batch(theta) + <gradient - grad log p_batch(anchor), theta - anchor>

    Args:
      logdensity: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`, such as `posteriors.log_posterior`. It is
        evaluated at the parameters and at the anchor, with the same key. It must return a scalar, not the terms of
        `log_posterior(as_terms=True)`.
      anchor: parameters near the mode.
      gradient: gradient of the log density of the whole data set at the anchor, from `full_gradient`.

    Returns:
      A density of the same form.

    Raises:
      ValueError: if anchor and gradient differ in structure or shapes. The returned density raises it if `logdensity`
        does not return a scalar.
    """
    if jax.tree.structure(anchor) != jax.tree.structure(gradient):
        raise ValueError(
            f"gradient must have the structure of the anchor, {jax.tree.structure(anchor)}; "
            f"got {jax.tree.structure(gradient)}"
        )
    shapes, got = (
        {name: jnp.shape(leaf) for name, leaf in tree.leaves_by_path(params).items()} for params in (anchor, gradient)
    )
    if shapes != got:
        raise ValueError(f"gradient must have the shapes of the anchor, {shapes}; got {got}")

    logdensity = checks.scalar_valued(logdensity, "logdensity")
    batch_gradient = _gradient(logdensity)

    def corrected(params: Params, rng_key: PRNGKey, batch: PyTree) -> Array | tuple[Array, PyTree]:
        out = logdensity(params, rng_key, batch)
        at_anchor = batch_gradient(anchor, jax.random.clone(rng_key), batch)  # uses the noise of the first evaluation
        displacement = jax.tree.map(jnp.subtract, tree.widen(params), tree.widen(anchor))
        correction = jax.tree.map(jnp.subtract, tree.widen(gradient), tree.widen(at_anchor))
        value = tree.value_and_aux(out)[0] + tree.dot(correction, displacement)
        return (value, out[1]) if isinstance(out, tuple) else value

    return corrected


def full_gradient(logdensity: Density, anchor: Params, rng_key: PRNGKey, batches: PyTree) -> Params:
    """Computes the gradient of the log density of the whole data set, as the mean of the gradients of its batches.

    Args:
      logdensity: as for `control_variates`, with minibatch gradients that are unbiased estimates.
      anchor: parameters at which the gradient is taken.
      rng_key: consumed; each batch gets its own key.
      batches: leaves `[num_batches, batch_size, ...]`, with every example in exactly one batch.

    Returns:
      The gradient, shaped like `anchor`.

    Raises:
      ValueError: if the leaves of `batches` differ in the length of their leading axis, or `logdensity` does not return
        a scalar.
    """
    batch_gradient = _gradient(checks.scalar_valued(logdensity, "logdensity"))
    keys = jax.random.split(rng_key, tree.leading_axis(batches, "batches"))

    def add(total: Params, key_and_batch: tuple[PRNGKey, PyTree]) -> tuple[Params, None]:
        return jax.tree.map(jnp.add, total, tree.widen(batch_gradient(anchor, *key_and_batch))), None

    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, tree.widen(anchor)), (keys, batches))
    return jax.tree.map(lambda leaf: leaf / len(keys), total)


def _gradient(logdensity: Density) -> Density:
    return jax.grad(lambda *arguments: tree.value_and_aux(logdensity(*arguments))[0])
