"""Coupling flows: densities made by invertible networks whose Jacobian is triangular.

    x = f_1(... f_K(z)),  z ~ N(0, I)            log p(x) = log N(z; 0, I) - sum_k log |det df_k|
    coupling:  y = (g(x_b; network(x_a)), x_a)               a, b: two halves of x, which change places every time
    affine     g(x) = x exp(s) + t                                                       RealNVP
    spline     g(x) = monotone rational-quadratic, linear beyond [-bound, bound]         neural spline flows

Each coordinate of b moves by itself, so that the determinant is a product and the inverse costs as much as the map.
Sources: Dinh, Sohl-Dickstein & Bengio, "Density estimation using Real NVP", ICLR 2017; Durkan et al., "Neural spline
flows", NeurIPS 2019. Maximum likelihood is one line:

    density = flows.density(flows.Flow(dim=2))
    loss = objectives.batch_mean(lambda params, rng_key, x: -density(params).log_prob(x))
"""

from collections.abc import Callable, Sequence
from typing import Any

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from bayesjax.models.initializers import normal
from bayesjax.models.mlp import MLP
from bayesjax.types import Array, Distribution, Params, PRNGKey, PyTree

BIJECTORS = ("affine", "spline")
MIN_BIN_FRACTION = (
    1e-3  # width and height of a spline's piece, as a share of the whole, and its slope: float32 must invert it
)


class Flow(nn.Module):
    """A density of vectors `[dim]`, of data of about unit scale.

    It begins as N(0, I): what the networks say is multiplied by gates that begin at 0. The parameters of all layers are
    stacked, so that the layers are one loop and compile as one.

    Attributes:
      dim: length of a vector, at least 2.
      num_layers: K; two of them move all coordinates.
      hidden: widths of the hidden layers of each layer's network.
      bijector: "affine" or "spline".
      activation: of the hidden layers.
      bias_scale: standard deviation of the first biases, which spread the units' steps over the input.
      max_log_scale: |s| of an affine layer stays below it, by tanh.
      num_bins: pieces of a spline.
      bound: a spline lives on [-bound, bound] and goes on in straight lines, whose slopes it learns.
    """

    dim: int
    num_layers: int = 8
    hidden: Sequence[int] = (64, 64)
    bijector: str = "affine"
    activation: Callable[[Array], Array] = nn.tanh
    bias_scale: float = 1.0
    max_log_scale: float = 3.0
    num_bins: int = 8
    bound: float = 4.0

    def setup(self) -> None:
        """Networks and gates."""
        if self.bijector not in BIJECTORS:
            raise ValueError(f"bijector must be one of {', '.join(BIJECTORS)}; got {self.bijector!r}")
        if self.dim < 2 or self.num_layers < 1 or self.num_bins < 1:
            raise ValueError(
                "dim must be at least 2, num_layers and num_bins at least 1; "
                f"got {self.dim}, {self.num_layers} and {self.num_bins}"
            )
        if not (self.max_log_scale > 0 and self.bound > 0):
            raise ValueError(f"max_log_scale and bound must be positive; got {self.max_log_scale} and {self.bound}")
        num = 2 if self.bijector == "affine" else 3 * self.num_bins + 1  # widths, heights and slopes
        num_stay = self.dim // 2
        widths = (*self.hidden, (self.dim - num_stay) * num)
        network = MLP(widths, self.activation, bias_init=normal(self.bias_scale), parent=None)

        def init(rng_key: PRNGKey) -> Params:
            keys = jax.random.split(rng_key, self.num_layers)
            return jax.vmap(lambda key: network.init(key, jnp.zeros(num_stay))["params"])(keys)

        self.networks = self.param("networks", init)
        self.gates = self.param("gates", nn.initializers.zeros, (self.num_layers, num))
        self.say = lambda params, x: network.apply({"params": params}, x)

    def __call__(self, x: Array) -> Array:
        """Log p(x), `[..., dim]` to `[...]`."""
        return self.distribution().log_prob(x)

    def distribution(self) -> Distribution:
        """The density as a distrax distribution, whose `bijector` is the map from z to x."""
        base = distrax.MultivariateNormalDiag(jnp.zeros(self.dim), jnp.ones(self.dim))
        return distrax.Transformed(base, ScannedChain(self._layer, (self.networks, self.gates)))

    def _layer(self, layer: PyTree) -> distrax.Bijector:
        params, gates = layer

        def conditioner(stays: Any) -> Array:
            said: Any = self.say(params, stays)
            return gates * said.reshape(*stays.shape[:-1], -1, len(gates))

        coupling = distrax.SplitCoupling(self.dim // 2, 1, conditioner, self._of_a_coordinate)
        return distrax.Chain([Roll(self.dim // 2), coupling])

    def _of_a_coordinate(self, values: Array) -> distrax.Bijector:
        if self.bijector == "spline":
            return distrax.RationalQuadraticSpline(
                values,
                -self.bound,
                self.bound,
                min_bin_size=2 * self.bound * MIN_BIN_FRACTION,
                min_knot_slope=MIN_BIN_FRACTION,
            )
        log_scale = self.max_log_scale * jnp.tanh(values[..., 1] / self.max_log_scale)
        return distrax.ScalarAffine(values[..., 0], log_scale=log_scale)


class Roll(distrax.Bijector):
    """Turns vectors by `shift` places: the last become the first. Repeated, every coordinate comes to every place."""

    def __init__(self, shift: int):
        super().__init__(event_ndims_in=1, is_constant_jacobian=True)
        self._shift = shift

    def forward_and_log_det(self, x: Any) -> tuple[Array, Array]:
        """Turned, and 0."""
        return jnp.roll(x, self._shift, axis=-1), jnp.zeros(x.shape[:-1], x.dtype)

    def inverse_and_log_det(self, y: Any) -> tuple[Array, Array]:
        """Turned back, and 0."""
        return jnp.roll(y, -self._shift, axis=-1), jnp.zeros(y.shape[:-1], y.dtype)


class ScannedChain(distrax.Bijector):
    """`distrax.Chain` of bijectors that differ in their parameters alone, as a loop: the last is applied first.

    Args:
      bijector: `layer -> bijector` of vectors.
      layers: what it is given, leaves `[num_layers, ...]`.
    """

    def __init__(self, bijector: Callable[[PyTree], distrax.Bijector], layers: PyTree):
        super().__init__(event_ndims_in=1)
        self._of_layer, self._layers = bijector, layers

    def forward_and_log_det(self, x: Any) -> tuple[Array, Array]:
        """The image of `[..., dim]`, and log |det| `[...]`."""
        return self._loop(x, lambda layer, x: self._of_layer(layer).forward_and_log_det(x), reverse=True)

    def inverse_and_log_det(self, y: Any) -> tuple[Array, Array]:
        """The origin of `[..., dim]`, and log |det| of the inverse `[...]`."""
        return self._loop(y, lambda layer, y: self._of_layer(layer).inverse_and_log_det(y), reverse=False)

    def _loop(self, x: Array, apply: Callable, *, reverse: bool) -> tuple[Array, Array]:
        def step(carry: tuple[Array, Array], layer: PyTree) -> tuple[tuple[Array, Array], None]:
            moved, log_det = apply(layer, carry[0])
            return (moved, carry[1] + log_det), None

        found, _ = lax.scan(step, (x, jnp.zeros(x.shape[:-1], x.dtype)), self._layers, reverse=reverse)
        return found


def density(model: Flow) -> Callable[[Params], Distribution]:
    """`(params) -> p`, with `p.log_prob(x)`, `p.sample(seed=rng_key, sample_shape=...)` and `p.bijector`."""
    return lambda params: model.bind({"params": params}).distribution()
