"""Control variates for the gradient of a minibatch: what the batch says of a fixed point is replaced by the truth.

    g(theta) = grad log p_batch(theta) - grad log p_batch(anchor) + grad log p(anchor)

With the anchor near the mode the two batch gradients nearly cancel, and the variance of g falls from that of a
gradient to that of a difference over |theta - anchor|: far from the anchor it may be larger than without. It is
unbiased at any anchor. As a density,

    log p_batch(theta) + <grad log p(anchor) - grad log p_batch(anchor), theta - anchor>

has this gradient, so that every kernel that takes a log density takes this one. Source: Baker, Fearnhead, Fox & Nemeth,
"Control variates for stochastic gradient MCMC", 2019; Nagapetyan et al., "The true cost of stochastic gradient Langevin
dynamics", 2017.
"""

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.types import Array, Density, Params, PRNGKey, PyTree


def control_variates(logdensity: Density, anchor: Params, gradient: Params) -> Density:
    """The log density whose minibatch gradient is corrected by what is known of it at the anchor.

    Args:
      logdensity: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`, such as `posteriors.log_posterior`. It is
        evaluated twice, at the parameters and at the anchor, with the same key. It returns a scalar, not the terms of
        `log_posterior(as_terms=True)`.
      anchor: a point near the mode.
      gradient: of the log density of the whole data set at the anchor: `full_gradient`.

    Returns:
      A density of the same form.

    Raises:
      ValueError: if anchor and gradient differ in structure or shapes; by the density, if `logdensity` is an array with
        axes.
    """
    if jax.tree.structure(anchor) != jax.tree.structure(gradient):
        raise ValueError(
            f"gradient must have the structure of the anchor, {jax.tree.structure(anchor)}; "
            f"got {jax.tree.structure(gradient)}"
        )
    shapes, got = (
        {name: jnp.shape(leaf) for name, leaf in tree.leaves_by_path(of).items()} for of in (anchor, gradient)
    )
    if shapes != got:
        raise ValueError(f"gradient must have the shapes of the anchor, {shapes}; got {got}")

    logdensity = checks.scalar_valued(logdensity, "logdensity")
    evaluate = _gradient(logdensity)

    def corrected(params: Params, rng_key: PRNGKey, batch: PyTree) -> Array | tuple[Array, PyTree]:
        out = logdensity(params, rng_key, batch)
        of_batch = evaluate(anchor, jax.random.clone(rng_key), batch)  # the same noise, knowingly
        moved = jax.tree.map(jnp.subtract, tree.widen(params), tree.widen(anchor))
        correction = jax.tree.map(jnp.subtract, tree.widen(gradient), tree.widen(of_batch))
        value = tree.value_and_aux(out)[0] + tree.dot(correction, moved)
        return (value, out[1]) if isinstance(out, tuple) else value

    return corrected


def full_gradient(logdensity: Density, anchor: Params, rng_key: PRNGKey, batches: PyTree) -> Params:
    """The gradient of the log density of the whole data set: the mean over batches of one size that make it up.

    Args:
      logdensity: as of `control_variates`; its batch gradients are unbiased estimates.
      anchor: where.
      rng_key: consumed; each batch has its own.
      batches: leaves `[num_batches, batch_size, ...]`, every example in one of them.

    Raises:
      ValueError: if the leaves of `batches` differ in their leading axis, or `logdensity` is an array with axes.
    """
    evaluate = _gradient(checks.scalar_valued(logdensity, "logdensity"))
    keys = jax.random.split(rng_key, tree.leading_axis(batches, "batches"))

    def add(total: Params, own: tuple[PRNGKey, PyTree]) -> tuple[Params, None]:
        return jax.tree.map(jnp.add, total, tree.widen(evaluate(anchor, *own))), None

    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, tree.widen(anchor)), (keys, batches))
    return jax.tree.map(lambda leaf: leaf / len(keys), total)


def _gradient(logdensity: Density) -> Density:
    return jax.grad(lambda *arguments: tree.value_and_aux(logdensity(*arguments))[0])
