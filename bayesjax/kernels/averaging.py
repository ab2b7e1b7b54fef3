"""An exponential moving average of the positions of a kernel.

    average <- d average + (1 - d) theta,   d = min(decay, (1 + t) / (10 + t)) at step t

GANs generate images with the average of the generator's weights: the generator itself oscillates around an equilibrium,
and its average converges. The average does not influence the kernel. Because d is small at first, the average soon
forgets the initial weights. Sources: Yazıcı et al., "The unusual effectiveness of averaging in GAN training", ICLR
2019; TensorFlow's moving averages (the formula of d). Read `game_descent.py` next for updates that converge without an
average.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.types import Array, Kernel, Params, PRNGKey, PyTree


class AveragingState(NamedTuple):
    """State of `averaging`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      inner: the state of the kernel.
      average: the moving average, shaped like the position, in float32 or wider types. Half precision is too coarse for
        a running mean.
    """

    step: Array
    inner: Any
    average: Params

    @property
    def position(self) -> Params:
        """The position of the inner kernel. The other players of a game receive it instead of the average."""
        return self.inner.position


def averaging(kernel: Kernel, decay: float = 0.999) -> Kernel:
    """Keeps a moving average of a kernel's positions.

    Args:
      kernel: any kernel without particles. To average each particle, use `particles(averaging(kernel), num)`.
      decay: decay of the average in one step, in [0, 1); its time scale is about 1 / (1 - decay) steps.

    Returns:
      A kernel whose state is an `AveragingState` and whose info is that of `kernel`.

    Raises:
      ValueError: if `decay` is outside its range.
    """
    checks.satisfies("in [0, 1)", lambda decay: (decay >= 0) & (decay < 1), decay=decay)
    checks.number(decay=decay)

    def init(position: Params, rng_key: PRNGKey) -> AveragingState:
        return AveragingState(jnp.zeros((), jnp.int32), kernel.init(position, rng_key), tree.widen(position))

    def step(rng_key: PRNGKey, state: AveragingState, batch: PyTree) -> tuple[AveragingState, Any]:
        inner, info = kernel.step(rng_key, state.inner, batch)
        current_decay = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(
            lambda old, new: (new + current_decay * (old - new)).astype(old.dtype), state.average, inner.position
        )
        return AveragingState(state.step + 1, inner, average), info

    return Kernel(init, step)
