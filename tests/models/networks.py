"""What the tests of networks share: weights without compiling `init`, quick compilation, counts, particles."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from bayesjax.models.equalised import EqualisedConv, EqualisedDense

# Compiled once and run once: no time is spent on making it fast.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def shapes(model, *args):
    """Outputs and parameters of `model`, traced and not computed; parameters are its only collection."""
    outputs, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), *args)
    assert set(variables) == {"params"}
    return outputs, variables["params"]


def filled(model, *args, scale=0.3, seed=0):
    """Variables of `model` for such arguments, filled by NumPy: tracing costs nothing, compiling `init` seconds."""
    random = np.random.default_rng(seed)
    return {
        "params": jax.tree.map(
            lambda leaf: random.normal(scale=scale, size=leaf.shape).astype(np.float32), shapes(model, *args)[1]
        )
    }


def count(model, *args):
    """The number of parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(model, *args)[1]))


def particle_shapes(model, num, *args):
    """Outputs of `num` networks at once, by `vmap` over their weights; traced."""
    stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num, *leaf.shape), leaf.dtype), shapes(model, *args)[1])
    return jax.eval_shape(jax.vmap(lambda params: model.apply({"params": params}, *args)), stacked)


def assert_particles(model, x, scale=0.3):
    """Two networks at once, by `vmap` over their weights, say what each says, and not the same."""
    each = [filled(model, x, scale=scale, seed=seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *each)

    def together_and_second(stacked):
        return jax.vmap(model.apply, (0, None))(stacked, x), model.apply(jax.tree.map(lambda leaf: leaf[1], stacked), x)

    together, second = quick_jit(together_and_second)(stacked)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=2e-4, atol=2e-4 * np.abs(b).max())
    assert any(not np.allclose(leaf[0], leaf[1], rtol=1e-2) for leaf in jax.tree.leaves(together))


def scales(model, *args):
    """By path of each equalised layer, with weights as at the start: scale of its outputs, alone and over its inputs'.

    The scale of outputs is their root mean square divided by the gain of the layer.
    """
    found = {}
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf / 0.3 if path[-1].key in ("kernel", "constant") else 0 * leaf, filled(model, *args)
    )

    def watch(layer, inputs, options, context):
        out, module = layer(*inputs, **options), context.module
        if isinstance(module, (EqualisedConv, EqualisedDense)):
            scale, before = (jnp.sqrt(jnp.mean(x**2)) for x in (out, inputs[0]))
            found["/".join(module.path)] = scale / module.gain, scale / module.gain / before
        return out

    def apply(params, args):
        with nn.intercept_methods(watch):
            model.apply(params, *args)
        return dict(found)

    return quick_jit(apply)(params, args)
