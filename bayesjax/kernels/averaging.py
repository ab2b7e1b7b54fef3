"""The exponential moving average of a position, kept beside the kernel that moves it.

    average <- d average + (1 - d) theta,   d = min(decay, (1 + t) / (10 + t)) at step t

What a GAN generates with: its generator circles where its average stands still. The kernel itself moves as if nobody
watched. The ramp of d lets the first steps, near the initial weights, be forgotten. Sources: Yazıcı et al., "The
unusual effectiveness of averaging in GAN training", ICLR 2019; the ramp is that of TensorFlow's moving averages.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.types import Array, Kernel, Params, PRNGKey, PyTree


class AveragingState(NamedTuple):
    """Carried by `averaging`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      inner: the kernel's own state.
      average: like the position, in float32 or wider types: half precision would not hold a running mean.
    """

    step: Array
    inner: Any
    average: Params

    @property
    def position(self) -> Params:
        """The inner kernel's position: what other players face."""
        return self.inner.position


def averaging(kernel: Kernel, decay: float = 0.999) -> Kernel:
    """Keeps a moving average of a kernel's positions.

    Args:
      kernel: any kernel but particles, of which each has its own average: `particles(averaging(kernel), num)`.
      decay: of the average in a step, in [0, 1); it remembers about 1 / (1 - decay) steps.

    Returns:
      A kernel whose state is an `AveragingState`, and whose info is the kernel's own.

    Raises:
      ValueError: if `decay` is outside its range.
    """
    checks.satisfies("in [0, 1)", lambda decay: (decay >= 0) & (decay < 1), decay=decay)
    checks.number(decay=decay)

    def init(position: Params, rng_key: PRNGKey) -> AveragingState:
        return AveragingState(jnp.zeros((), jnp.int32), kernel.init(position, rng_key), tree.widen(position))

    def step(rng_key: PRNGKey, state: AveragingState, batch: PyTree) -> tuple[AveragingState, Any]:
        inner, info = kernel.step(rng_key, state.inner, batch)
        kept = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(
            lambda old, new: (new + kept * (old - new)).astype(old.dtype), state.average, inner.position
        )
        return AveragingState(state.step + 1, inner, average), info

    return Kernel(init, step)
