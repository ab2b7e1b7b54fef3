"""Separate weight noise for each example: local reparameterisation and Flipout, for any Flax module.

With one draw of the weights for a batch, all examples share the same noise, and averaging over the batch does not
reduce its variance. For a layer y = x W with independent W ~ N(mean, scale^2) there are two remedies:

    local reparameterisation   y ~ N(x mean, x^2 scale^2)                   draws outputs instead of weights
    Flipout                    y = x mean + ((x r) noise) s,  r, s = +-1    one noise ~ N(0, scale^2), signs by example

Squares and the products with the vectors r and s of random signs are elementwise. For one example, y has the same
distribution as with weights that are drawn for this example alone. The gradient of a batch therefore has the same
expectation as with one draw of the weights, and its variance decreases with the size of the batch.

Linear layers (Dense, Conv and ConvTranspose of Flax and of `convolution.py`) are intercepted when the module calls
them. Weights of other layers are drawn explicitly, for each example in local reparameterisation, and once for all
examples in Flipout. The argument `weights` below comes from `moments` or `perturb` of `posteriors.mean_field`:

    apply = models.flipout(module)
    log_likelihood = lambda weights, rng_key, example: log_prob(apply(weights, rng_key, example["x"]), example["y"])
    loss = objectives.bayes_by_backprop(log_likelihood, family.perturb, posteriors.kl_to_gaussian(), num_data=num_data)

Sources: Kingma, Salimans & Welling, "Variational dropout and the local reparameterization trick", NeurIPS 2015; Wen et
al., "Flipout: efficient pseudo-independent weight perturbations on mini-batches", ICLR 2018. Read
`objectives/bayes_by_backprop.py` next.
"""

import zlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from bayesjax import tree
from bayesjax.models.convolution import Conv, ConvTranspose
from bayesjax.types import Array, Params, PRNGKey

LINEAR = (nn.Dense, nn.Conv, nn.ConvTranspose, Conv, ConvTranspose)  # linear in x and in the kernel, plus a bias
MEAN, SPREAD = "weight_mean", "weight_spread"  # collections that pass the two parts of the weights to the layers

Apply = Callable[..., Any]


def local_reparameterisation(module: nn.Module) -> Apply:
    """Returns the module's `apply` for one example, with outputs of linear layers drawn by local reparameterisation.

        y ~ N(x mean, x^2 scale^2)

    x is the input and y the output of a linear layer without bias, and squares are elementwise. The distribution of y
    is exact if a layer is applied to one vector for each example. If there are several vectors, such as the positions
    of a convolution or a sequence, each gets independent noise, as in the literature. Shared weights would correlate
    them.

    Args:
      module: any Flax module.

    Returns:
      `((mean, scale), rng_key, *args, **kwargs) -> outputs`. `mean` and `scale` are means and standard deviations of
      the weights, pytrees like the module's parameters. The other arguments are passed to `module.apply`. Use `vmap` to
      apply the function to a batch, with a key for each example.
    """

    def layer_output(layer: Any, x: Array, mean: Params, scale: Params, rng_key: PRNGKey) -> Array:
        square = jax.tree.map(jnp.square, scale)
        variance = _linear(layer, square["kernel"], jnp.square(x))
        mean_output = _linear(layer, mean["kernel"], x)
        if "bias" in mean:
            mean_output, variance = _plus(mean_output, mean["bias"]), _plus(variance, square["bias"])
        # The root has no finite gradient at a variance of 0, which arises for an input of zeros without a bias.
        deviation = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
        return mean_output + deviation * tree.normal_like(rng_key, deviation)

    def draw_weights(mean: Params, scale: Params, rng_key: PRNGKey) -> Params:
        """Weights for one example. Those of intercepted layers are unused, and `jit` removes their computation."""
        leaves, structure = jax.tree.flatten(mean)
        keys = jax.tree.unflatten(structure, list(jax.random.split(rng_key, len(leaves))))
        return jax.tree.map(lambda mu, sd, key: mu + sd * tree.normal_like(key, mu), mean, scale, keys)

    return _intercept(module, layer_output, draw_weights)


def flipout(module: nn.Module) -> Apply:
    """Returns the module's `apply` for one example, with the noise of kernels multiplied by random signs (Flipout).

        y = x mean + ((x r) noise) s,    r, s = +-1

    x is the input and y the output of a linear layer without bias, and r and s are vectors of random signs. The
    distribution of y is exact for noise that is symmetric and independent between weights. This includes convolutions
    and sequences, whose positions share the signs of an example.

    Args:
      module: any Flax module.

    Returns:
      `((mean, noise), rng_key, *args, **kwargs) -> outputs`. `mean` and `noise` are the mean of the weights and one
      draw of their noise, pytrees like the module's parameters. The other arguments are passed to `module.apply`. Use
      `vmap` to apply the function to a batch, with the same noise for all examples and a key for each.
    """

    def layer_output(layer: Any, x: Array, mean: Params, noise: Params, rng_key: PRNGKey) -> Array:
        in_key, out_key = jax.random.split(rng_key)
        mean_output = _linear(layer, mean["kernel"], x)
        signs = jax.random.rademacher(in_key, x.shape[-1:], x.dtype)
        out_signs = jax.random.rademacher(out_key, mean_output.shape[-1:], mean_output.dtype)
        output = mean_output + _times(_linear(layer, noise["kernel"], _times(x, signs)), out_signs)
        return _plus(_plus(output, mean["bias"]), noise["bias"] * out_signs) if "bias" in mean else output

    def add_noise(mean: Params, noise: Params, rng_key: PRNGKey) -> Params:
        del rng_key
        return jax.tree.map(jnp.add, mean, noise)

    return _intercept(module, layer_output, add_noise)


def _intercept(module: nn.Module, layer_output: Callable[..., Array], combine: Callable) -> Apply:
    """Returns `module.apply` with `layer_output` in place of the linear layers.

    The other layers use the parameters `combine(mean, spread, rng_key)`.
    """

    if not hasattr(module, "apply"):
        raise TypeError(
            f"module must be a flax.linen module; got {type(module).__name__}: for others use adapters.split, with one "
            "draw of the weights for a batch"
        )

    def apply(weights: tuple[Params, Params], rng_key: PRNGKey, *args: Any, **kwargs: Any) -> Any:
        mean, spread = weights
        weights_key, layers_key = jax.random.split(rng_key)
        params = combine(mean, spread, weights_key)

        def intercept(next_function: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            layer = context.module
            # Layers inside a lifted transform, such as a scan over time, cannot read the collections; they use params.
            if (
                context.method_name != "__call__"
                or not isinstance(layer, LINEAR)
                or not layer.has_variable(SPREAD, "kernel")
            ):
                return next_function(*args, **kwargs)
            parts = layer.variables[MEAN], layer.variables[SPREAD]
            key = jax.random.fold_in(layers_key, zlib.crc32("/".join(layer.path).encode()))
            return layer_output(layer, args[0] if args else next(iter(kwargs.values())), *parts, key)

        with nn.intercept_methods(intercept):
            return module.apply({"params": params, MEAN: mean, SPREAD: spread}, *args, **kwargs)

    return apply


def _linear(layer: Any, kernel: Array, x: Array) -> Array:
    """The product of the layer without its bias. The detached copy is not intercepted, because it has no spread."""
    return layer.clone(parent=None, name=None, use_bias=False).apply({"params": {"kernel": kernel}}, x)


def _plus(x: Array, channels: Array) -> Array:
    """`[..., n]` plus `[n]`, with the broadcast written out for `jax_numpy_rank_promotion="raise"`."""
    return x + jnp.broadcast_to(channels, x.shape)


def _times(x: Array, channels: Array) -> Array:
    """`[..., n]` times `[n]`, with the broadcast written out as in `_plus`."""
    return x * jnp.broadcast_to(channels, x.shape)
