"""The two axes that devices can divide, `data` and `particle`, and the operations along them.

`training.parallel` binds them with `shard_map` or `pmap`; `vmap(axis_name=...)` binds them as well. Where an axis is
not bound, a device has all examples or particles.

    local_keys(rng_key, num, axis)     keys of this device's examples or particles, the same on any number of devices
    mean(value, DATA)                  the mean over all examples, from the means of the devices
    gather(position, PARTICLE)         all particles of a player, for the players that depend on them

Gradients are reduced in `kernels/gradient.py` only. A device computes log prior + N/n sum over its n examples, so the
mean over devices counts the prior once, however many devices there are.
"""

from typing import Any

import jax
from jax import lax

from bayesjax.types import PRNGKey

DATA, PARTICLE = "data", "particle"


def size(axis: str) -> int:
    """The number of devices along the axis; 1 if the axis is not bound."""
    try:
        return lax.axis_size(axis)
    except NameError:
        return 1


def local_part(values: Any, axis: str) -> Any:
    """This device's block of the leading axis, of arrays that are the same on every device.

    Args:
      values: a pytree of arrays `[num, ...]`.
      axis: DATA or PARTICLE.

    Returns:
      The tree with leaves `[num / number of devices, ...]`.

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
    """Keys for this device's `num` examples or particles: its block of the keys of all devices.

    Args:
      rng_key: a key that is the same on all devices.
      num: number of examples or particles on each device.
      axis: DATA or PARTICLE.

    Returns:
      Keys `[num]`.
    """
    return local_part(jax.random.split(rng_key, num * size(axis)), axis)


def local_size(total: int, axis: str) -> int:
    """The number of examples or particles on this device, out of `total`.

    Raises:
      ValueError: if they cannot be divided evenly.
    """
    if total % size(axis):
        raise ValueError(f"{total} cannot be divided evenly over the {size(axis)} devices of the {axis} axis")
    return total // size(axis)


def mean(values: Any, axis: str) -> Any:
    """The mean over the devices of the axis, leaf by leaf.

    Args:
      values: a pytree of arrays.
      axis: DATA or PARTICLE.
    """
    return lax.pmean(values, axis) if size(axis) > 1 else values


def gather(values: Any, axis: str) -> Any:
    """The blocks of all devices of the axis, concatenated along the leading axis.

    Args:
      values: a pytree of arrays `[num, ...]`.
      axis: DATA or PARTICLE.
    """
    return lax.all_gather(values, axis, tiled=True) if size(axis) > 1 else values
