"""A kernel that passes an auxiliary output of its loss on to the next step, such as the state of a recurrent network.

    inner, info = kernel.step(rng_key, inner, Carried(batch, carry)),   carry <- info.aux["carry"]

With the state of a recurrent network as the carry, this is truncated back-propagation through time: values pass from
window to window, gradients do not. Source: Williams & Peng, "An efficient gradient-based algorithm for on-line training
of recurrent network trajectories", 1990. Read `models/recurrent.py` next.
"""

from typing import Any, NamedTuple

import jax

from bayesjax import axes
from bayesjax.types import Carried, Kernel, Params, PRNGKey, PyTree


class CarryingState(NamedTuple):
    """State of `carrying`.

    Attributes:
      inner: the state of the kernel.
      carry: the value that the loss receives together with the next batch.
    """

    inner: Any
    carry: PyTree

    @property
    def position(self) -> Params:
        """The inner kernel's position."""
        return self.inner.position


def carrying(kernel: Kernel, carry: PyTree) -> Kernel:
    """Passes `aux["carry"]` of a kernel's loss on to its next step.

    Args:
      kernel: a kernel whose density takes a `types.Carried` as its batch and returns an `aux` with the key "carry",
        shaped like `carry`. No gradient passes through the carry.
      carry: the carry that the first step receives.

    Returns:
      A kernel whose state is a `CarryingState` and whose info is that of `kernel`, without the carry in its aux.

    Raises:
      ValueError: `step` raises it if `aux` has no key "carry", or if the batch is divided over several devices, where
        the carry would be averaged like the rest of `aux`.
    """

    def init(position: Params, rng_key: PRNGKey) -> CarryingState:
        return CarryingState(kernel.init(position, rng_key), carry)

    def step(rng_key: PRNGKey, state: CarryingState, batch: PyTree) -> tuple[CarryingState, Any]:
        if axes.size(axes.DATA) > 1:
            raise ValueError(f"a carrying kernel needs the whole batch on one device; got {axes.size(axes.DATA)} parts")
        inner, info = kernel.step(rng_key, state.inner, Carried(batch, state.carry))
        if "carry" not in info.aux:
            raise ValueError(f"aux of a carrying kernel's loss must have the key carry; it has {sorted(info.aux)}")
        aux = {name: value for name, value in info.aux.items() if name != "carry"}
        return CarryingState(inner, jax.lax.stop_gradient(info.aux["carry"])), info._replace(aux=aux)

    return Kernel(init, step)
