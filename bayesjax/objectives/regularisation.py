"""Regularisers of the progressive GAN and of StyleGAN2: drift, R1 of batches, path lengths, and lazy evaluation.

    drift          D(x)^2, which keeps the outputs of a critic near 0
    batch R1       the R1 penalty of a discriminator that compares the examples of a batch
    path length    (|J_w^T y| - a)^2, which makes a generator's step in the image proportional to the step in w
    lazy           a penalty that is computed in every k-th step only, and then multiplied by k

J_w is the Jacobian of an image with respect to its styles w, y is an image of Gaussian noise, and a is the running mean
of the lengths |J_w^T y|. All functions are pure: the number of the step and the running mean are arguments. A loss
receives them in the carry of `kernels.carrying`, which saves them with the state of a run. `data.number_batches` is
another way to pass the number of the step. Sources: Karras et al., "Progressive growing of GANs for improved quality,
stability, and variation", ICLR 2018; Karras et al., "Analyzing and improving the image quality of StyleGAN", CVPR 2020.
Read `adversarial.py` for the games and the penalties of one example.
"""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.types import Array, PRNGKey, PyTree


def drift_penalty(real_output: Array) -> Array:
    """Drift penalty D(x)^2 of a critic's outputs at real examples, which keeps the outputs near 0.

    The Wasserstein game does not change if a constant is added to D. Source: Karras et al., 2018, where the penalty has
    the weight 0.001 in the loss of the discriminator.

    Args:
      real_output: outputs of D at real examples, of any shape.

    Returns:
      Penalties of the same shape.
    """
    return real_output**2


def batch_r1_penalty(critic: Callable[[Array], Array], x: Array) -> Array:
    """R1 penalties of a critic of batches, or R2 penalties if the examples are generated.

        penalty_i = 1/2 |grad_{x_i} sum_j critic(x)_j|^2

    It serves critics whose output for an example depends on the other examples of the batch, as with a minibatch
    standard deviation. For other critics it is `adversarial.r1_penalty` of each example. Source: the program of Karras
    et al., 2020.

    Args:
      critic: `x [num, ...] -> outputs [num]`.
      x: examples `[num, ...]`.

    Returns:
      Penalties `[num]`.

    Raises:
      ValueError: if the critic does not return one output for each example.
    """

    def total(x: Array) -> Array:
        outputs = critic(x)
        if jnp.shape(outputs) != x.shape[:1]:
            raise ValueError(f"critic must return outputs of shape {x.shape[:1]}; got shape {jnp.shape(outputs)}")
        return outputs.sum()

    return 0.5 * jnp.sum(jax.grad(total)(x).reshape(len(x), -1) ** 2, axis=1)


def path_length(generate: Callable[[Array], Array], w: Array, rng_key: PRNGKey) -> Array:
    """Length of a step in the image that belongs to a step in the styles of one image.

        length = sqrt(1/L sum_l |J_l^T y|^2),    y ~ N(0, I) / sqrt(height width)

    J_l is the Jacobian of the image with respect to the styles of layer l = 1 .. L. The squares are summed over the
    dimensions of the styles, and averaged over layers. For a linear map x = A w with L = 1, the mean square of the
    length is |A|^2 / (height width), with the Frobenius norm. Source: Karras et al., 2020, section 3.2; the mean over
    layers is that of their program.

    Args:
      generate: `w -> image [height, width, channels]`, for one image; its noise is fixed.
      w: styles of one image, `[dim]` for all layers or `[num_layers, dim]` for each layer.
      rng_key: consumed.

    Returns:
      A scalar.

    Raises:
      ValueError: if `w` or the image has another number of axes.
    """
    if jnp.ndim(w) not in (1, 2):
        raise ValueError(f"w must be [dim] or [num_layers, dim]; got an array of shape {jnp.shape(w)}")
    image, pull_back = jax.vjp(generate, w)
    checks.rank("[height, width, channels], one image", 3, image=image)
    height, width, _ = image.shape
    (gradient,) = pull_back(jax.random.normal(rng_key, image.shape, image.dtype) / math.sqrt(height * width))
    square = jnp.sum(gradient**2) / (len(w) if jnp.ndim(w) == 2 else 1)
    is_zero = square == 0  # where the gradient of the root would be NaN
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, square)))


def path_length_penalty(lengths: Array, mean_length: Array, decay: float = 0.01) -> tuple[Array, Array]:
    """Path-length penalty of a batch, the mean of (length - a)^2, and the running mean a.

        a <- a + decay (mean of the lengths - a)

    The penalty uses the new a, through which no gradient passes. Source: Karras et al., 2020, where the penalty has the
    weight 2 in the loss of the generator and is computed in every fourth step.

    Args:
      lengths: the `path_length` of each image of a batch, `[num]`.
      mean_length: a before this step, a scalar; 0 before the first step.
      decay: weight of the batch in the running mean, in (0, 1].

    Returns:
      The penalty and the new a, two scalars.

    Raises:
      ValueError: if `decay` is outside (0, 1].
      AssertionError: if `lengths` is not a vector or `mean_length` is not a scalar.
    """
    checks.satisfies("in (0, 1]", lambda decay: (decay > 0) & (decay <= 1), decay=decay)
    chex.assert_rank([lengths, mean_length], [1, 0])
    new_mean = jax.lax.stop_gradient(mean_length + decay * (lengths.mean() - mean_length))
    return jnp.mean((lengths - new_mean) ** 2), new_mean


def lazy_penalty(
    penalty: Callable[[], Array | tuple[Array, PyTree]], step: Array, interval: int, aux: PyTree = None
) -> tuple[Array, PyTree]:
    """Evaluates a penalty, multiplied by k, in every k-th step. The value is 0 in the other steps.

        k penalty() if k divides step, else 0

    The mean over k steps is the penalty. The branch that is not taken costs nothing, unless `vmap` maps over `step`,
    which evaluates both. The density of a sampler must not depend on the step, so use k = 1 there. Source: Karras et
    al., 2020, section 3.1, with k = 16 for R1 and k = 4 for path lengths. Their program makes a separate step of Adam
    for the penalty and adapts Adam's hyper-parameters to the number of steps. Here the penalty is part of the loss.

    Example:
      The loss receives the number of the step and the mean length in the carry, and passes them on in its aux.

        def penalty():
            return path_length_penalty(jax.vmap(functools.partial(path_length, generate))(w, keys), carry["length"])

        value, length = lazy_penalty(penalty, carry["step"], 4, carry["length"])
        return loss + 2 * value, {"carry": {"step": carry["step"] + 1, "length": length}}

    Args:
      penalty: `() -> scalar` or `(scalar, aux)`.
      step: number of the step, an integer scalar.
      interval: k, at least 1.
      aux: auxiliary output in the steps without the penalty; of the same structure, shapes and types as that of
        `penalty`, and None if that returns a scalar.

    Returns:
      The value, a scalar, and the auxiliary output, which is an empty dict if `penalty` returns a scalar.

    Raises:
      ValueError: if `interval` is below 1, `step` or the value of the penalty is not a scalar, or `aux` does not fit.
    """
    checks.count(interval=interval)
    checks.number(step=step)
    evaluate, other_aux = checks.scalar_valued(penalty, "penalty"), {} if aux is None else aux

    def due() -> tuple[Array, PyTree]:
        value, new_aux = tree.value_and_aux(evaluate())
        return interval * value, new_aux

    (value, new_aux), other = jax.eval_shape(lambda: (due(), other_aux))
    given, expected = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), each) for each in (other, new_aux))
    if given != expected:
        raise ValueError(f"aux must have the shapes and types of the aux of penalty, {expected}; got {given}")
    return jax.lax.cond(step % interval == 0, due, lambda: (jnp.zeros((), value.dtype), other_aux))
