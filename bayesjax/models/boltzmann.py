"""Restricted Boltzmann machine: an energy over visible units v and hidden units h without connections within a layer.

    p(v, h) = exp(-E(v, h)) / Z,        F(v) = -log sum_h exp(-E(v, h)),        p(v) = exp(-F(v)) / Z

    Bernoulli units    E = -b'(v - m) - c'(h - l) - (v - m)' W (h - l)                               v in {0, 1}^V
    Gaussian units     E = |(v - m - b) / s|^2 / 2 - c'(h - l) - ((v - m) / s^2)' W (h - l)          v in R^V

The hidden units are always in {0, 1}^H. Both conditionals factorise:

    p(h_j = 1 | v) = sigmoid(c_j + (W'(v - m))_j)                     with (v - m) / s^2 for Gaussian units
    p(v_i = 1 | h) = sigmoid(b_i + (W(h - l))_i)      or      v_i | h ~ N(m_i + b_i + (W(h - l))_i, s_i^2)

The offsets m and l are 0 in the plain parameterisation. In the centred one they follow the means of the units, which
makes learning invariant to flipping the bits of the data. `move_offsets` changes the offsets and keeps the
distribution. Sources: Smolensky, "Information processing in dynamical systems: foundations of harmony theory", 1986;
Hinton, "A practical guide to training restricted Boltzmann machines", 2010; Montavon & Mueller, "Deep Boltzmann
machines and the centering trick", 2012, and Melchior, Fischer & Wiskott, "How to center deep Boltzmann machines", JMLR
2016, for the offsets; Cho, Ilin & Raiko, "Improved learning of Gaussian-Bernoulli restricted Boltzmann machines", ICANN
2011, for Gaussian units with learnt variances.

The parameters enter the energy as one pytree, so a tempered machine is the same function with interpolated parameters
(`interpolate`). Read `objectives/boltzmann.py` next for how to learn them, `kernels/block_gibbs.py` for samples, and
`evaluation/partition_function.py` for Z.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from bayesjax import checks, noise
from bayesjax.models.initializers import Initializer
from bayesjax.models.requires_distrax import distrax
from bayesjax.models.vae import Bernoulli
from bayesjax.types import OFFSETS, Array, ArrayLike, Conditional, Params, PRNGKey

VisibleUnits = Literal["bernoulli", "gaussian"]


class Units(Bernoulli):
    """Bernoulli distribution of a layer of units with a fast draw, whose probability of a 1 is within 2^-23 of p."""

    def _sample_n(self, key: PRNGKey, n: int) -> Array:
        shape = (n, *self.logits.shape)
        tanh_half = jnp.tanh(0.5 * self.logits)  # 2 p - 1, as the noise is on (-1, 1)
        is_one = noise.uniform(key, n * self.logits.size).reshape(shape) < jnp.broadcast_to(tanh_half, shape)
        return is_one.astype(self.logits.dtype)


class EnergyFunction(Protocol):
    """A scalar function of the parameters and one state of a layer."""

    def __call__(self, params: Params, units: Array, /) -> Array:
        """The energy in nats."""
        ...


class Machine(NamedTuple):
    """The pure functions of a machine with two sides, each factorised given the other, for samplers and for AIS.

    Attributes:
      energy: `(params, v, h) -> scalar`, E(v, h).
      free_energy: `(params, v) -> scalar`, F(v) = -log sum_h exp(-E(v, h)).
      hidden_free_energy: `(params, h) -> scalar`, -log of the sum or integral over v of exp(-E(v, h)).
      hidden: `(params, v) -> p(h | v)`.
      visible: `(params, h) -> p(v | h)`.
    """

    energy: Any
    free_energy: EnergyFunction
    hidden_free_energy: EnergyFunction
    hidden: Conditional
    visible: Conditional


class RBM(nn.Module):
    """Restricted Boltzmann machine. A call gives the free energy of one visible vector `[num_visible]`.

    Attributes:
      num_visible: V.
      num_hidden: H.
      visible_units: "bernoulli", or "gaussian" with a learnt variance for each unit.
      is_centred: whether the parameters include the offsets m and l, which start at 1/2 for Bernoulli units and 0 for
        Gaussian ones.
      kernel_init: initialiser of W.
    """

    num_visible: int
    num_hidden: int
    visible_units: VisibleUnits = "bernoulli"
    is_centred: bool = False
    kernel_init: Initializer = nn.initializers.normal(0.01)

    def setup(self) -> None:
        """Creates the parameters: kernel `[V, H]`, biases, offsets if centred, and `log_variance` of Gaussian units."""
        if self.visible_units not in ("bernoulli", "gaussian"):
            raise ValueError(f"visible_units must be 'bernoulli' or 'gaussian'; got {self.visible_units!r}")
        checks.count(num_visible=self.num_visible, num_hidden=self.num_hidden)
        self.kernel = self.param("kernel", self.kernel_init, (self.num_visible, self.num_hidden))
        self.visible_bias = self.param("visible_bias", nn.initializers.zeros, (self.num_visible,))
        self.hidden_bias = self.param("hidden_bias", nn.initializers.zeros, (self.num_hidden,))
        if self.visible_units == "gaussian":
            self.log_variance = self.param("log_variance", nn.initializers.zeros, (self.num_visible,))
        if self.is_centred:
            start = nn.initializers.constant(0.5 if self.visible_units == "bernoulli" else 0.0)
            self.visible_offset = self.param("visible_offset", start, (self.num_visible,))
            self.hidden_offset = self.param("hidden_offset", nn.initializers.constant(0.5), (self.num_hidden,))

    def __call__(self, v: Array) -> Array:
        """The free energy of one visible vector."""
        return self.free_energy(v)

    def energy(self, v: Array, h: Array) -> Array:
        """E(v, h) of one visible vector `[V]` and one hidden vector `[H]`, in nats."""
        self._check(v=v, h=h)
        hidden = h - self._hidden_offset()
        return self._visible_energy(v) - jnp.dot(self._hidden_logits(v), hidden)

    def free_energy(self, v: Array) -> Array:
        """F(v) = -log sum_h exp(-E(v, h)) of one visible vector `[V]`, in nats."""
        self._check(v=v)
        logits = self._hidden_logits(v)
        return self._visible_energy(v) - jnp.sum(jax.nn.softplus(logits) - self._hidden_offset() * logits)

    def hidden_free_energy(self, h: Array) -> Array:
        """-log of the sum (or integral) over v of exp(-E(v, h)), of one hidden vector `[H]`, in nats."""
        self._check(h=h)
        from_hidden = jnp.dot(self.kernel, h - self._hidden_offset())
        if self.visible_units == "bernoulli":
            logits = self.visible_bias + from_hidden
            log_sums = jax.nn.softplus(logits) - self._visible_offset() * logits
        else:
            shift = from_hidden * (from_hidden + 2 * self.visible_bias) / (2 * jnp.exp(self.log_variance))
            log_sums = 0.5 * (jnp.log(2 * jnp.pi) + self.log_variance) + shift
        return -jnp.dot(h - self._hidden_offset(), self.hidden_bias) - jnp.sum(log_sums)

    def hidden(self, v: Array) -> distrax.Distribution:
        """p(h | v) of one visible vector `[V]`."""
        self._check(v=v)
        return distrax.Independent(Units(logits=self._hidden_logits(v)), 1)

    def visible(self, h: Array) -> distrax.Distribution:
        """p(v | h) of one hidden vector `[H]`."""
        self._check(h=h)
        location = self.visible_bias + jnp.dot(self.kernel, h - self._hidden_offset())
        if self.visible_units == "bernoulli":
            return distrax.Independent(Units(logits=location), 1)
        return distrax.Independent(
            distrax.Normal(self._visible_offset() + location, jnp.exp(0.5 * self.log_variance)), 1
        )

    def _visible_energy(self, v: Array) -> Array:
        """The terms of the energy that depend on v alone."""
        if self.visible_units == "bernoulli":
            return -jnp.dot(v - self._visible_offset(), self.visible_bias)
        return 0.5 * jnp.sum((v - self._visible_offset() - self.visible_bias) ** 2 / jnp.exp(self.log_variance))

    def _hidden_logits(self, v: Array) -> Array:
        centred = v - self._visible_offset()
        if self.visible_units == "gaussian":
            centred = centred / jnp.exp(self.log_variance)
        return self.hidden_bias + jnp.dot(centred, self.kernel)

    def _visible_offset(self) -> Array | float:
        return self.visible_offset if self.is_centred else 0.0

    def _hidden_offset(self) -> Array | float:
        return self.hidden_offset if self.is_centred else 0.0

    def _check(self, **units: Array) -> None:
        expected = {"v": (self.num_visible,), "h": (self.num_hidden,)}
        for name, value in units.items():
            if jnp.shape(value) != expected[name]:
                raise ValueError(
                    f"{name} must be one vector of shape {expected[name]} (use vmap for more); got {jnp.shape(value)}"
                )


def machine(model: RBM) -> Machine:
    """The energies and conditionals of an RBM as functions of its parameters.

    Args:
      model: the module.

    Returns:
      A `Machine`, whose functions take `model.init(rng_key, v)["params"]` first.
    """

    def method(name: str) -> Any:
        def call(params: Params, *units: Array) -> Any:
            return model.apply({"params": params}, *units, method=name)

        return call

    return Machine(*(method(name) for name in Machine._fields))


def reparameterise(machine: Machine, function: Callable[[Params], Params]) -> Machine:
    """A machine whose parameters pass through a function first, such as `deep_boltzmann.as_rbm`.

    Args:
      machine: a machine.
      function: `params -> params of the machine`, differentiable.

    Returns:
      A `Machine` of the function's argument.
    """

    def compose(method: Callable) -> Callable:
        return lambda params, *units: method(function(params), *units)

    return Machine(*(compose(method) for method in machine))


def move_offsets(params: Params, visible_offset: ArrayLike, hidden_offset: ArrayLike) -> Params:
    """Parameters of the same distribution with other offsets. A plain machine becomes a centred one.

        c' = c + W'(m' - m)            b' = b + W(l' - l)          (Gaussian: (m' - m) / s^2, and b' = ... + m - m')

    Args:
      params: parameters of an `RBM`, centred or plain.
      visible_offset: m', `[V]`.
      hidden_offset: l', `[H]`.

    Returns:
      Parameters for `RBM(is_centred=True)`.

    Raises:
      ValueError: if an offset does not have the shape of its units.
    """
    kernel = params["kernel"]
    new = {"visible_offset": jnp.asarray(visible_offset), "hidden_offset": jnp.asarray(hidden_offset)}
    for name, size in zip(OFFSETS, kernel.shape, strict=True):
        if new[name].shape != (size,):
            raise ValueError(f"{name} must have the shape {(size,)}; got {new[name].shape}")
    old = {name: params.get(name, jnp.zeros_like(new[name])) for name in OFFSETS}
    visible, hidden = (new[name] - old[name] for name in OFFSETS)
    visible_bias = params["visible_bias"] + kernel @ hidden
    if "log_variance" in params:
        visible_bias -= visible
        visible = visible / jnp.exp(params["log_variance"])
    return {**params, **new, "visible_bias": visible_bias, "hidden_bias": params["hidden_bias"] + visible @ kernel}


def keep_distribution(old: Params, new: Params) -> Params:
    """New parameters whose biases compensate for the change of the offsets, for `kernels.adjust`.

    Args:
      old: centred parameters before an update.
      new: parameters after it, in which the offsets may have moved.

    Returns:
      Parameters with the new offsets and the distribution of `new` with the old offsets.
    """
    unmoved = {**new, **{name: old[name] for name in OFFSETS}}
    return move_offsets(unmoved, *(new[name] for name in OFFSETS))


def remove_offsets(params: Params) -> Params:
    """Parameters of the same distribution in the plain parameterisation, the inverse of `move_offsets`.

    Args:
      params: parameters of an `RBM`, centred or plain.

    Returns:
      Parameters for `RBM(is_centred=False)`.
    """
    kernel = params["kernel"]
    moved = move_offsets(params, jnp.zeros_like(kernel[:, 0]), jnp.zeros_like(kernel[0]))
    return {name: value for name, value in moved.items() if name not in OFFSETS}


def independent_units(params: Params, mean: ArrayLike, variance: ArrayLike | None = None) -> Params:
    """Parameters of a machine without connections: W = 0 and c = 0, and visible units with the means of the data.

    It is the base of annealed importance sampling. Its partition function is `independent_log_partition_function`.

    Args:
      params: parameters of an `RBM`, which give shapes and offsets.
      mean: means of the visible units, `[V]`; strictly between 0 and 1 for Bernoulli units (add a pseudocount).
      variance: variances of Gaussian units, `[V]`, positive; None for Bernoulli units.

    Returns:
      Parameters with the structure and the offsets of `params`.

    Raises:
      ValueError: if the variance is missing, or given for Bernoulli units, a shape is wrong, or a value out of range.
    """
    is_gaussian = "log_variance" in params
    if (variance is not None) != is_gaussian:
        raise ValueError("variance must be given for Gaussian units, and only for them")
    moments = {"mean": jnp.asarray(mean)} | ({"variance": jnp.asarray(variance)} if is_gaussian else {})
    for name, value in moments.items():
        if value.shape != params["visible_bias"].shape:
            raise ValueError(f"{name} must have the shape {params['visible_bias'].shape}; got {value.shape}")
    zeros = {name: jnp.zeros_like(params[name]) for name in ("kernel", "hidden_bias")}
    if not is_gaussian:
        checks.satisfies("strictly between 0 and 1", lambda mean: (mean > 0) & (mean < 1), mean=moments["mean"])
        return {**params, **zeros, "visible_bias": jnp.log(moments["mean"]) - jnp.log1p(-moments["mean"])}
    checks.all_positive(variance=moments["variance"])
    bias = moments["mean"] - params.get("visible_offset", 0.0)
    return {**params, **zeros, "visible_bias": bias, "log_variance": jnp.log(moments["variance"])}


def independent_log_partition_function(params: Params) -> Array:
    """The logarithm of the partition function Z of a machine whose W is 0, such as `independent_units` gives.

        log Z = sum_i (log(1 + e^b_i) - m_i b_i) + sum_j (log(1 + e^c_j) - l_j c_j)

    A Gaussian unit has (log(2 pi) + log s_i^2) / 2 in place of its term.

    Args:
      params: parameters of an `RBM`; the kernel is not read.

    Returns:
      A scalar in nats.
    """

    def log_sum(bias: Array, offset: Array | float) -> Array:
        return jnp.sum(jax.nn.softplus(bias) - offset * bias)

    hidden = log_sum(params["hidden_bias"], params.get("hidden_offset", 0.0))
    if "log_variance" in params:
        return hidden + 0.5 * jnp.sum(jnp.log(2 * jnp.pi) + params["log_variance"])
    return hidden + log_sum(params["visible_bias"], params.get("visible_offset", 0.0))


def interpolate(start: Params, end: Params, position: Array | float) -> Params:
    """Parameters (1 - t) start + t end, a path of machines from one to the other.

    From `independent_units` to a machine of Bernoulli units it is the geometric path of annealed importance sampling,
    because their energy is linear in the parameters other than the offsets. For Gaussian units, whose energy is not,
    every point of the path is a machine, but the path is not the geometric one.

    Args:
      start: parameters at t = 0.
      end: parameters at t = 1, of the same structure and with the same offsets.
      position: t in [0, 1].

    Returns:
      Parameters of the machine at t.
    """
    return jax.tree.map(lambda a, b: (1 - position) * a + position * b, start, end)
