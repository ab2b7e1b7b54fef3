"""Coupling flows: densities defined by invertible networks with a triangular Jacobian.

    x = f_1(... f_K(z)),  z ~ N(0, I)            log p(x) = log N(z; 0, I) - sum_k log |det df_k|
    coupling:  y = (g(x_b; network(x_a)), x_a)               a, b: two halves of x, exchanged in every layer
    affine     g(x) = x exp(s) + t                                                       RealNVP
    spline     g(x) = monotone rational-quadratic, linear outside [-bound, bound]        neural spline flows

The map from z to x is a composition of K coupling layers f_k with Jacobians df_k. g acts on each coordinate of x_b
separately, so the determinant is a product and the inverse costs as much as the map. s, t and the spline are outputs of
the network. Sources: Dinh, Sohl-Dickstein & Bengio, "Density estimation using Real NVP", ICLR 2017; Durkan et al.,
"Neural spline flows", NeurIPS 2019. An example of training by maximum likelihood:

    density = flows.density(flows.Flow(dim=2))
    loss = objectives.batch_mean(lambda params, rng_key, x: -density(params).log_prob(x))

Read `experiments/density_estimation.py` next.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from bayesjax.models.initializers import normal
from bayesjax.models.mlp import MLP
from bayesjax.models.requires_distrax import distrax
from bayesjax.types import Array, Distribution, Params, PRNGKey, PyTree

BIJECTORS = ("affine", "spline")
MIN_BIN_FRACTION = 1e-3
"""Smallest slope of a spline, and smallest relative width and height of a bin, so that float32 can invert it."""


class Flow(nn.Module):
    """A normalising flow over vectors `[dim]`, for data of about unit scale.

    The initial density is N(0, I), because the outputs of the networks are multiplied by gates that are initially 0.
    The parameters of all layers are stacked, so the layers form one loop and are compiled once.

    Attributes:
      dim: length of a vector, at least 2.
      num_layers: K, the number of coupling layers. Two layers change all coordinates.
      hidden: widths of the hidden layers of each coupling network.
      bijector: "affine" or "spline".
      activation: activation of the hidden layers.
      bias_scale: standard deviation of the initial biases, which distributes the units' transitions over the input.
      max_log_scale: bound on |s| of an affine layer, imposed by tanh.
      num_bins: number of bins of a spline.
      bound: limit of the interval [-bound, bound] of a spline, which continues linearly with learned slopes.
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
        """Creates the networks and gates.

        Raises:
          ValueError: if an attribute has an invalid value.
        """
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
        num_fixed = self.dim // 2
        widths = (*self.hidden, (self.dim - num_fixed) * num)
        network = MLP(widths, self.activation, bias_init=normal(self.bias_scale), parent=None)

        def init(rng_key: PRNGKey) -> Params:
            keys = jax.random.split(rng_key, self.num_layers)
            return jax.vmap(lambda key: network.init(key, jnp.zeros(num_fixed))["params"])(keys)

        self.networks = self.param("networks", init)
        self.gates = self.param("gates", nn.initializers.zeros, (self.num_layers, num))
        self.apply_network = lambda params, x: network.apply({"params": params}, x)

    def __call__(self, x: Array) -> Array:
        """Log density log p(x) in nats, from `[..., dim]` to `[...]`."""
        return self.distribution().log_prob(x)

    def distribution(self) -> Distribution:
        """The density as a distrax distribution; its `bijector` is the map from z to x."""
        base = distrax.MultivariateNormalDiag(jnp.zeros(self.dim), jnp.ones(self.dim))
        return distrax.Transformed(base, ScannedChain(self._layer, (self.networks, self.gates)))

    def _layer(self, layer: PyTree) -> distrax.Bijector:
        params, gates = layer

        def conditioner(fixed: Any) -> Array:
            output: Any = self.apply_network(params, fixed)
            return gates * output.reshape(*fixed.shape[:-1], -1, len(gates))

        coupling = distrax.SplitCoupling(self.dim // 2, 1, conditioner, self._scalar_bijector)
        return distrax.Chain([Roll(self.dim // 2), coupling])

    def _scalar_bijector(self, values: Array) -> distrax.Bijector:
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
    """Cyclic shift of the coordinates of a vector, which exchanges the two halves between coupling layers.

    Args:
      shift: number of places by which coordinates move towards the end.
    """

    def __init__(self, shift: int):
        super().__init__(event_ndims_in=1, is_constant_jacobian=True)
        self._shift = shift

    def forward_and_log_det(self, x: Any) -> tuple[Array, Array]:
        """The shifted vectors `[..., dim]`, and their log determinants 0, `[...]`."""
        return jnp.roll(x, self._shift, axis=-1), jnp.zeros(x.shape[:-1], x.dtype)

    def inverse_and_log_det(self, y: Any) -> tuple[Array, Array]:
        """The vectors `[..., dim]` shifted back, and their log determinants 0, `[...]`."""
        return jnp.roll(y, -self._shift, axis=-1), jnp.zeros(y.shape[:-1], y.dtype)


class ScannedChain(distrax.Bijector):
    """A chain of bijectors that differ only in their parameters, computed by a loop.

    As in `distrax.Chain`, the last bijector is applied first.

    Args:
      bijector: `layer_params -> bijector` of vectors.
      layers: stacked parameters of the layers, leaves `[num_layers, ...]`.
    """

    def __init__(self, bijector: Callable[[PyTree], distrax.Bijector], layers: PyTree):
        super().__init__(event_ndims_in=1)
        self._bijector, self._layers = bijector, layers

    def forward_and_log_det(self, x: Any) -> tuple[Array, Array]:
        """The mapped vectors `[..., dim]`, and log |det| `[...]`."""
        return self._loop(x, lambda layer, x: self._bijector(layer).forward_and_log_det(x), reverse=True)

    def inverse_and_log_det(self, y: Any) -> tuple[Array, Array]:
        """The vectors `[..., dim]` mapped back, and log |det| of the inverse `[...]`."""
        return self._loop(y, lambda layer, y: self._bijector(layer).inverse_and_log_det(y), reverse=False)

    def _loop(self, x: Array, apply: Callable, *, reverse: bool) -> tuple[Array, Array]:
        def step(carry: tuple[Array, Array], layer: PyTree) -> tuple[tuple[Array, Array], None]:
            moved, log_det = apply(layer, carry[0])
            return (moved, carry[1] + log_det), None

        result, _ = lax.scan(step, (x, jnp.zeros(x.shape[:-1], x.dtype)), self._layers, reverse=reverse)
        return result


def density(model: Flow) -> Callable[[Params], Distribution]:
    """Turns a flow into a function from its parameters to its density.

    Args:
      model: the flow.

    Returns:
      `params -> distribution`, a distrax distribution with `log_prob(x)`, `sample(seed=rng_key, sample_shape=...)` and
      `bijector`.
    """
    return lambda params: model.bind({"params": params}).distribution()
