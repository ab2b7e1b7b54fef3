"""A kernel that remembers: what the loss saw at the end of one batch comes back with the next one.

    step(rng_key, (inner, carry), batch) = inner.step(rng_key, inner, Carried(batch, carry)),   carry <- aux["carry"]

Truncated back-propagation through time is this with a recurrent network's state for a carry: values go on from window
to window, gradients do not. Source: Williams & Peng, "An efficient gradient-based algorithm for on-line training of
recurrent network trajectories", 1990.
"""

from typing import Any, NamedTuple

import jax

from bayesjax import axes
from bayesjax.types import Carried, Kernel, Params, PRNGKey, PyTree


class CarryingState(NamedTuple):
    """Carried by `carrying`.

    Attributes:
      inner: the kernel's own state.
      carry: what its loss sees beside the next batch.
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
      kernel: whose density takes a `types.Carried` for its batch, and returns an `aux` with the key "carry", shaped
        like `carry`; no gradient goes through it.
      carry: what the first step sees.

    Returns:
      A kernel whose state is a `CarryingState` and whose info is the inner one's, less the carry. Not for a batch in
      parts: on several devices of a `data` axis aux is averaged, and so would the carry be.
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
