"""Weight noise of its own for every example, in the Flax module that you have: no Bayesian layers.

One draw of Gaussian weights for a whole batch gives all its examples the same noise, which averaging over the batch
does not reduce. For a layer y = x W, with W ~ N(mean, scale^2) elementwise, there are two cures:

    local reparameterisation   y ~ N(x mean, x^2 scale^2)                   draws outputs, not weights
    Flipout                    y = x mean + ((x r) noise) s,  r, s = +-1    one noise ~ N(0, scale^2), signs by example

Both leave the law of y, and so of one example's objective, as it is with weights drawn for that example alone; the
gradients of a batch keep their mean, and their variance falls with the batch.

The layers (Dense, Conv, ConvTranspose; Flax's and those of `convolution.py`) are intercepted as the module calls them.
Weights of any other layer are drawn as such: for each example in the first, once for all in the second. The mean and
scale come from `posteriors.mean_field`, whose `moments` and `perturb` make what is called `weights` here:

    apply = models.flipout(module)
    log_likelihood = lambda weights, rng_key, example: log_prob(apply(weights, rng_key, example["x"]), example["y"])
    loss = objectives.bayes_by_backprop(log_likelihood, family.perturb, posteriors.kl_to_gaussian(), num_data=num_data)

Sources: Kingma, Salimans & Welling, "Variational dropout and the local reparameterization trick", NeurIPS 2015; Wen et
al., "Flipout: efficient pseudo-independent weight perturbations on mini-batches", ICLR 2018.
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

LINEAR = (nn.Dense, nn.Conv, nn.ConvTranspose, Conv, ConvTranspose)  # in x, in the kernel, and plus a bias
MEAN, SPREAD = "weight_mean", "weight_spread"  # collections that carry the two halves to where the layers are

Apply = Callable[..., Any]


def local_reparameterisation(module: nn.Module) -> Apply:
    """The module's `apply` with outputs of linear layers drawn from their normal distribution, for *one* example.

    Exact where a layer sees one vector an example. Where it sees several (a convolution's positions, a sequence), each
    gets noise of its own, as in the literature on convolutions, although weights that all share would correlate it.

    Returns:
      `((mean, scale), rng_key, *args, **kwargs) -> outputs`, with `mean` and `scale` pytrees like the module's
      parameters, and the rest passed to `module.apply`; map it over a batch with a key for each example.
    """

    def layer_output(layer: Any, x: Array, mean: Params, scale: Params, rng_key: PRNGKey) -> Array:
        square = jax.tree.map(jnp.square, scale)
        variance = _linear(layer, square["kernel"], jnp.square(x))
        located = _linear(layer, mean["kernel"], x)
        if "bias" in mean:
            located, variance = _plus(located, mean["bias"]), _plus(variance, square["bias"])
        # A variance of 0 (an input of zeros, without a bias) has no finite gradient of its root, and needs none.
        deviation = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
        return located + deviation * tree.normal_like(rng_key, deviation)

    def drawn(mean: Params, scale: Params, rng_key: PRNGKey) -> Params:
        """Weights for this example alone; those of intercepted layers are not used, and so never computed under jit."""
        leaves, structure = jax.tree.flatten(mean)
        keys = jax.tree.unflatten(structure, list(jax.random.split(rng_key, len(leaves))))
        return jax.tree.map(lambda mu, sd, key: mu + sd * tree.normal_like(key, mu), mean, scale, keys)

    return _intercepted(module, layer_output, drawn)


def flipout(module: nn.Module) -> Apply:
    """The module's `apply` with the noise of linear layers' kernels multiplied by random signs, for *one* example.

    Exact for kernels whose noise is symmetric and independent from weight to weight, at all positions of a convolution
    or a sequence, which share an example's signs.

    Returns:
      `((mean, noise), rng_key, *args, **kwargs) -> outputs`, with the weights' mean and one draw of their noise as
      pytrees like the module's parameters, and the rest passed to `module.apply`; map it over a batch with one noise
      and a key for each example.
    """

    def layer_output(layer: Any, x: Array, mean: Params, noise: Params, rng_key: PRNGKey) -> Array:
        in_key, out_key = jax.random.split(rng_key)
        located = _linear(layer, mean["kernel"], x)
        signs = jax.random.rademacher(in_key, x.shape[-1:], x.dtype)
        out_signs = jax.random.rademacher(out_key, located.shape[-1:], located.dtype)
        output = located + _times(_linear(layer, noise["kernel"], _times(x, signs)), out_signs)
        return _plus(_plus(output, mean["bias"]), noise["bias"] * out_signs) if "bias" in mean else output

    def perturbed(mean: Params, noise: Params, rng_key: PRNGKey) -> Params:
        del rng_key
        return jax.tree.map(jnp.add, mean, noise)

    return _intercepted(module, layer_output, perturbed)


def _intercepted(module: nn.Module, layer_output: Callable[..., Array], whole: Callable) -> Apply:
    """`module.apply` with `layer_output` in place of its linear layers.

    All others see the parameters that `whole` makes of the two halves.
    """

    def apply(weights: tuple[Params, Params], rng_key: PRNGKey, *args: Any, **kwargs: Any) -> Any:
        mean, spread = weights
        weights_key, layers_key = jax.random.split(rng_key)
        params = whole(mean, spread, weights_key)

        def intercept(next_function: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            layer = context.module
            # A layer inside a lifted transform (a scan over time) does not see the collections: its weights are drawn.
            if (
                context.method_name != "__call__"
                or not isinstance(layer, LINEAR)
                or not layer.has_variable(SPREAD, "kernel")
            ):
                return next_function(*args, **kwargs)
            halves = layer.variables[MEAN], layer.variables[SPREAD]
            key = jax.random.fold_in(layers_key, zlib.crc32("/".join(layer.path).encode()))
            return layer_output(layer, args[0] if args else next(iter(kwargs.values())), *halves, key)

        with nn.intercept_methods(intercept):
            return module.apply({"params": params, MEAN: mean, SPREAD: spread}, *args, **kwargs)

    return apply


def _linear(layer: Any, kernel: Array, x: Array) -> Array:
    """The layer's product alone: no bias, no interception (a detached copy has no spread)."""
    return layer.clone(parent=None, name=None, use_bias=False).apply({"params": {"kernel": kernel}}, x)


def _plus(x: Array, channels: Array) -> Array:
    """`[..., n]` plus `[n]`, with the broadcast written out for `jax_numpy_rank_promotion="raise"`."""
    return x + jnp.broadcast_to(channels, x.shape)


def _times(x: Array, channels: Array) -> Array:
    """`[..., n]` times `[n]`, with the broadcast written out as in `_plus`."""
    return x * jnp.broadcast_to(channels, x.shape)
