"""The two axes that a computation can be spread over, `data` and `particle`, and the three things done along them.

`training.parallel` binds them with `shard_map` or `pmap`; a `vmap(axis_name=...)` does as well. Code that follows works
on any number of devices, and on one it does nothing:

    the noise of an example or a particle is that of its place in the whole     local_keys(rng_key, num, axis)
    a mean over examples is a mean of the devices' means                        mean(value, DATA)
    a player that faces all particles of another gathers them                   gather(position, PARTICLE)

The one reduction of gradients is in `kernels/gradient.py`. A log density is log prior + N/n sum over the n examples at
hand, so the mean over devices counts the prior once, however many devices there are.
"""

from typing import Any

import jax
from jax import lax

from bayesjax.types import PRNGKey

DATA, PARTICLE = "data", "particle"


def size(axis: str) -> int:
    """The number of devices along the axis; 1 where it is not bound."""
    try:
        return lax.axis_size(axis)
    except NameError:
        return 1


def local_part(values: Any, axis: str) -> Any:
    """This device's part of arrays that every device computes alike: its block of the leading axis.

    Raises:
      ValueError: if the leading axis cannot be divided evenly.
    """
    num = size(axis)
    if num == 1:
        return values

    def part(leaf: Any) -> Any:
        length = local_size(leaf.shape[0], axis)
        return lax.dynamic_slice_in_dim(leaf, lax.axis_index(axis) * length, length)

    return jax.tree.map(part, values)


def local_keys(rng_key: PRNGKey, num: int, axis: str) -> PRNGKey:
    """A key for each of this device's `num` examples or particles, that of its place in the whole."""
    return local_part(jax.random.split(rng_key, num * size(axis)), axis)


def local_size(total: int, axis: str) -> int:
    """How many of `total` examples or particles this device has.

    Raises:
      ValueError: if they cannot be divided evenly.
    """
    if total % size(axis):
        raise ValueError(f"{total} cannot be divided evenly over the {size(axis)} devices of the {axis} axis")
    return total // size(axis)


def mean(values: Any, axis: str) -> Any:
    """The mean over the devices of the axis, leaf by leaf."""
    return lax.pmean(values, axis) if size(axis) > 1 else values


def gather(values: Any, axis: str) -> Any:
    """The blocks of all devices of the axis, put together again on the leading axis."""
    return lax.all_gather(values, axis, tiled=True) if size(axis) > 1 else values
