"""Deep Boltzmann machine: layers of binary units x_0 = v, x_1, ..., x_L with connections between neighbours.

    E(x) = - sum_i b_i'(x_i - o_i) - sum_i (x_i - o_i)' W_i (x_{i+1} - o_{i+1}),        p(x) = exp(-E(x)) / Z

b_i and o_i are the biases and offsets of layer i, and W_i are the weights between layers i and i + 1. Given the even
layers, the units of the odd layers are independent, and vice versa. A deep machine is therefore a restricted one
between its even and its odd layers (`as_rbm`). Block Gibbs sampling, parallel tempering, enumeration and annealed
importance sampling of an RBM apply to it unchanged. Given v alone, the hidden layers are dependent; `mean_field` gives
the factorised q(h | v) of the variational bound

    log p(v) >= - E_q E(v, h) + entropy(q) - log Z            (`objectives.boltzmann.variational_free_energy`)

Sources: Salakhutdinov & Hinton, "Deep Boltzmann machines", AISTATS 2009, and "An efficient learning procedure for deep
Boltzmann machines", Neural Computation 2012, for the pre-training by tied copies (`tied_rbm`). Read
`objectives/boltzmann.py` next for how to learn them.
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.models.boltzmann import RBM
from bayesjax.models.initializers import Initializer
from bayesjax.types import Array, Params


class DBM(nn.Module):
    """Deep Boltzmann machine. A call gives the energy of all layers.

    Attributes:
      layer_sizes: number of units of each layer, the visible layer first; at least two layers.
      is_centred: whether the parameters include the offsets o_i, which start at 1/2.
      kernel_init: initialiser of the W_i.
    """

    layer_sizes: Sequence[int]
    is_centred: bool = False
    kernel_init: Initializer = nn.initializers.normal(0.01)

    def setup(self) -> None:
        """Creates `kernel_i` `[n_i, n_{i+1}]`, `bias_i` `[n_i]` and, if centred, `offset_i` `[n_i]`.

        Raises:
          ValueError: if there are fewer than two layers, or a size is not positive.
        """
        if len(self.layer_sizes) < 2:
            raise ValueError(f"layer_sizes must have at least two entries; got {tuple(self.layer_sizes)}")
        for size in self.layer_sizes:
            checks.count(layer_sizes=size)
        pairs = zip(self.layer_sizes[:-1], self.layer_sizes[1:], strict=True)
        self.kernels = [self.param(f"kernel_{i}", self.kernel_init, pair) for i, pair in enumerate(pairs)]
        self.biases = [self.param(f"bias_{i}", nn.initializers.zeros, (n,)) for i, n in enumerate(self.layer_sizes)]
        if self.is_centred:
            half = nn.initializers.constant(0.5)
            self.offsets = [self.param(f"offset_{i}", half, (n,)) for i, n in enumerate(self.layer_sizes)]

    def __call__(self, layers: Sequence[Array]) -> Array:
        """The energy of one state of all layers, the visible one first."""
        return self.energy(layers[0], layers[1:])

    def energy(self, v: Array, hidden: Sequence[Array]) -> Array:
        """E(v, h) of one visible vector and the hidden layers, in nats. It is linear in every unit.

        Args:
          v: one visible vector `[n_0]`.
          hidden: one array `[n_i]` for each hidden layer; units or their means.

        Returns:
          A scalar.

        Raises:
          ValueError: if a layer has the wrong shape.
        """
        layers = [v, *hidden]
        shapes, expected = [jnp.shape(x) for x in layers], [(size,) for size in self.layer_sizes]
        if shapes != expected:
            raise ValueError(f"layers must have the shapes {expected} (use vmap for more); got {shapes}")
        layers = [x - o for x, o in zip(layers, self._offsets(), strict=True)]
        terms = [jnp.dot(b, x) for b, x in zip(self.biases, layers, strict=True)]
        pairs = zip(layers[:-1], self.kernels, layers[1:], strict=True)
        terms += [jnp.dot(jnp.dot(below, kernel), above) for below, kernel, above in pairs]
        return -tree.sum_leaves(terms)

    def mean_field(self, v: Array, num_updates: int = 20) -> list[Array]:
        """Means of the hidden layers under the factorised q(h | v) that maximises the bound locally.

        A bottom-up pass with doubled weights, in place of the missing top-down input, starts the means. Each update
        then sets all odd layers given the even ones and all even layers given the odd ones, so the bound never falls.

        Args:
          v: one visible vector `[n_0]`.
          num_updates: number of updates of all layers; 0 leaves the bottom-up pass.

        Returns:
          One array of means for each hidden layer.

        Raises:
          ValueError: if `v` has the wrong shape or `num_updates` is negative.
        """
        checks.non_negative(num_updates=num_updates)
        if jnp.shape(v) != (self.layer_sizes[0],):
            raise ValueError(
                f"v must be one vector of shape {(self.layer_sizes[0],)} (use vmap for more); got {jnp.shape(v)}"
            )
        offsets, top = self._offsets(), len(self.layer_sizes) - 1
        means = [v]
        for i in range(1, top + 1):
            from_below = jnp.dot(means[-1] - offsets[i - 1], self.kernels[i - 1])
            means.append(jax.nn.sigmoid(self.biases[i] + (1 if i == top else 2) * from_below))

        def update(_: Any, means: list[Array]) -> list[Array]:
            means = list(means)
            for i in [*range(1, top + 1, 2), *range(2, top + 1, 2)]:
                logits = self.biases[i] + jnp.dot(means[i - 1] - offsets[i - 1], self.kernels[i - 1])
                if i < top:
                    logits += jnp.dot(self.kernels[i], means[i + 1] - offsets[i + 1])
                means[i] = jax.nn.sigmoid(logits)
            return means

        return jax.lax.fori_loop(0, num_updates, update, means)[1:]

    def _offsets(self) -> Sequence[Array | float]:
        return self.offsets if self.is_centred else [0.0] * len(self.layer_sizes)


def rbm_between_layers(model: DBM) -> RBM:
    """The restricted machine whose visible units are the even layers and whose hidden units are the odd layers.

    Args:
      model: the deep machine. It gives the numbers of units, and whether the machine is centred.
    """
    sizes = model.layer_sizes
    return RBM(sum(sizes[::2]), sum(sizes[1::2]), is_centred=model.is_centred)


def as_rbm(params: Params) -> Params:
    """Parameters of `rbm_between_layers` with the distribution of a deep machine.

    They are linear in the parameters of the deep machine. The visible units are (x_0, x_2, ...) and the hidden units
    (x_1, x_3, ...), joined in this order.

    Args:
      params: parameters of a `DBM`.

    Returns:
      Parameters of an `RBM`, centred if the deep machine is.
    """
    num_layers = sum(name.startswith("bias_") for name in params)
    even, odd = range(0, num_layers, 2), range(1, num_layers, 2)

    def block(i: int, j: int) -> Array:
        if abs(i - j) == 1:
            return params[f"kernel_{i}"] if i < j else params[f"kernel_{j}"].T
        return jnp.zeros((params[f"bias_{i}"].size, params[f"bias_{j}"].size), params["kernel_0"].dtype)

    def join(name: str, layers: range) -> Array:
        return jnp.concatenate([params[f"{name}_{i}"] for i in layers])

    kernel = jnp.concatenate([jnp.concatenate([block(i, j) for j in odd], axis=1) for i in even])
    rbm = {"kernel": kernel, "visible_bias": join("bias", even), "hidden_bias": join("bias", odd)}
    if "offset_0" in params:
        rbm |= {"visible_offset": join("offset", even), "hidden_offset": join("offset", odd)}
    return rbm


def tied_rbm(params: Params, *, doubled: Literal["visible", "hidden", "both"]) -> Params:
    """Parameters of an RBM with two tied copies of one side or of both, for the pre-training of a deep machine.

    The lowest machine has two copies of the data, the highest has two copies of its hidden units, and a machine between
    them has both. The copies stand for the input that a layer of the deep machine receives from its other side.

    Args:
      params: plain parameters of an `RBM`.
      doubled: the side with two copies.

    Returns:
      Parameters of an RBM with twice the units on that side. With two copies of the visible units its data are
      `jnp.concatenate([x, x])`.

    Raises:
      ValueError: if the parameters are not those of a plain machine of Bernoulli units, or `doubled` is unknown.
    """
    _check_plain(params, "params")
    if doubled not in ("visible", "hidden", "both"):
        raise ValueError(f"doubled must be 'visible', 'hidden' or 'both'; got {doubled!r}")
    visible = 2 if doubled in ("visible", "both") else 1
    hidden = 2 if doubled in ("hidden", "both") else 1
    return {
        "kernel": jnp.tile(params["kernel"], (visible, hidden)),
        "visible_bias": jnp.tile(params["visible_bias"], visible),
        "hidden_bias": jnp.tile(params["hidden_bias"], hidden),
    }


def from_rbms(stack: Sequence[Params]) -> Params:
    """Parameters of a plain `DBM` from its pre-trained machines.

    A hidden layer takes the mean of the biases that the machines below and above learnt for it.

    Args:
      stack: plain parameters of RBMs, the lowest first; the hidden units of each are the visible units of the next.

    Returns:
      Parameters of a `DBM` with one layer more than there are machines. The kernels are those of the machines.

    Raises:
      ValueError: if there is no machine, one is not a plain machine of Bernoulli units, or the sizes do not fit.
    """
    if not stack:
        raise ValueError("stack must have at least one machine; got none")
    params = {}
    for i, rbm in enumerate(stack):
        _check_plain(rbm, f"stack[{i}]")
        if i and rbm["visible_bias"].shape != stack[i - 1]["hidden_bias"].shape:
            raise ValueError(
                f"stack[{i}] must have {stack[i - 1]['hidden_bias'].size} visible units, the number of hidden units of "
                f"the machine below; got {rbm['visible_bias'].size}"
            )
        params[f"kernel_{i}"] = rbm["kernel"]
        below = [stack[i - 1]["hidden_bias"]] if i else []
        params[f"bias_{i}"] = sum([*below, rbm["visible_bias"]]) / (len(below) + 1)
    return {**params, f"bias_{len(stack)}": stack[-1]["hidden_bias"]}


def _check_plain(params: Params, name: str) -> None:
    """Raises ValueError for offsets or variances, which would be lost."""
    expected = ["hidden_bias", "kernel", "visible_bias"]
    if sorted(params) != expected:
        raise ValueError(
            f"{name} must be those of a plain RBM of Bernoulli units, {expected} (see boltzmann.remove_offsets); got "
            f"{sorted(params)}"
        )
