"""The named axes `data` and `particle`, over which devices divide the work, and the operations along them.

`training.parallel` binds the axes with `shard_map` or `pmap`; `vmap(axis_name=...)` binds them as well. Where an axis
is not bound, the device holds all examples or particles.

    local_keys(rng_key, num, axis)     keys of this device's examples or particles
    mean(value, DATA)                  the mean over all examples, from the means of the devices
    gather(position, PARTICLE)         all particles of one player of a game, which the other players depend on

An example or particle has the same key for any number of devices. `kernels/gradient.py` averages the gradients of the
devices. Each device computes log prior + N/n sum_i log likelihood_i, where i runs over its n examples and N is the size
of the data set. The mean over devices therefore counts the prior once for any number of devices. Read
`training/parallel.py` next, which binds the axes.
"""

from typing import Any

import jax
from jax import lax

from bayesjax.types import PRNGKey

DATA, PARTICLE = "data", "particle"


def size(axis: str) -> int:
    """The number of devices along `axis` (DATA or PARTICLE), which is 1 if the axis is not bound."""
    try:
        return lax.axis_size(axis)
    except NameError:
        return 1


def local_part(values: Any, axis: str) -> Any:
    """Selects this device's block of arrays that every device holds in full.

    Args:
      values: a pytree of arrays `[num, ...]`, the same on every device.
      axis: DATA or PARTICLE.

    Returns:
      The tree with leaves `[num / number of devices, ...]`.

    Raises:
      ValueError: if the leading axis cannot be divided evenly over the devices.
    """
    num = size(axis)
    if num == 1:
        return values

    def part(leaf: Any) -> Any:
        length = local_size(leaf.shape[0], axis)
        return lax.dynamic_slice_in_dim(leaf, lax.axis_index(axis) * length, length)

    return jax.tree.map(part, values)


def local_keys(rng_key: PRNGKey, num: int, axis: str) -> PRNGKey:
    """Splits a key over all devices and returns the keys of this device's examples or particles.

    Args:
      rng_key: a key that is the same on all devices; consumed.
      num: number of examples or particles on each device.
      axis: DATA or PARTICLE.

    Returns:
      Keys `[num]`.
    """
    return local_part(jax.random.split(rng_key, num * size(axis)), axis)


def local_size(total: int, axis: str) -> int:
    """The number of examples or particles on each device.

    Args:
      total: number of examples or particles on all devices together.
      axis: DATA or PARTICLE.

    Raises:
      ValueError: if `total` is not a multiple of the number of devices.
    """
    if total % size(axis):
        raise ValueError(f"{total} cannot be divided evenly over the {size(axis)} devices of the {axis} axis")
    return total // size(axis)


def mean(values: Any, axis: str) -> Any:
    """Averages each leaf of a pytree over the devices of an axis.

    Args:
      values: a pytree of arrays, of equal shapes on all devices.
      axis: DATA or PARTICLE.

    Returns:
      A pytree of the same structure and shapes.
    """
    return lax.pmean(values, axis) if size(axis) > 1 else values


def gather(values: Any, axis: str) -> Any:
    """Concatenates the blocks of all devices of an axis along the leading axis.

    Args:
      values: a pytree of arrays `[num, ...]`, the block of this device.
      axis: DATA or PARTICLE.

    Returns:
      The tree with leaves `[num * number of devices, ...]`.
    """
    return lax.all_gather(values, axis, tiled=True) if size(axis) > 1 else values
