"""Minibatches as a pure function of (seed, step), so that a resumed run sees what an unbroken one would have seen.

    batch = batches(step)       any step, in any order, on any device; nothing is carried from batch to batch

An epoch is a fresh permutation of the data; it is never stored: element i of permutation e is computed when asked for,
by a small block cipher keyed by e (a Feistel network walked until it lands inside the data).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import checks, noise, tree, types
from bayesjax.types import Array, PRNGKey, PyTree


@jax.tree_util.register_pytree_node_class
class Minibatches:
    """Shuffled minibatches of arrays: a callable `step -> batch`, and a pytree, so that jit takes it as an argument.

    Every epoch visits each example once, in an order of its own; a batch may straddle two epochs. The gradients of an
    epoch's batches then add up to that of all data: good for optimisers, and SGHMC stays cooler for it. Batches drawn
    with replacement are independent, as the theory of samplers with noisy gradients has it, and `kernels.sgnht` needs.
    """

    def __init__(self, rng_key: PRNGKey, arrays: PyTree, batch_size: int, *, with_replacement: bool = False):
        """
        Args:
          rng_key: consumed; the seed of the order.
          arrays: a pytree whose leaves are `[num, ...]`.
          batch_size: examples per batch; may exceed num (examples then repeat within a batch).
          with_replacement: whether every example of every batch is drawn by itself, and there are no epochs.

        Raises:
          ValueError: if the leaves disagree in length, or hold 2^31 examples or more, or `batch_size` is not positive.
        """
        self.num = tree.leading_axis(arrays, "arrays")
        if batch_size < 1 or self.num < 1:
            raise ValueError(f"batch_size must be at least 1 and arrays not empty; got {batch_size} and {self.num}")
        if self.num >= 2**31:
            raise ValueError(f"arrays must hold fewer than 2^31 examples, which int32 can number; got {self.num}")
        self.rng_key, self.batch_size, self.with_replacement = rng_key, batch_size, with_replacement
        self.arrays = jax.tree.map(jnp.asarray, arrays)

    def __call__(self, step: Array | int) -> PyTree:
        """The batch of that step, which lies in 0 .. 2^32 - 1: leaves `[batch_size, ...]`.

        Orders repeat after 2^32 epochs.
        """
        index = self._independent(step) if self.with_replacement else self._of_epochs(step)
        return jax.tree.map(lambda leaf: leaf[index], self.arrays)

    def _independent(self, step: Array | int) -> Array:
        return jax.random.randint(jax.random.fold_in(self.rng_key, step), (self.batch_size,), 0, self.num)

    def _of_epochs(self, step: Array | int) -> Array:
        first_epoch, first_place = _product_divided(step, self.batch_size, self.num)
        epochs_on, offset = np.divmod(np.arange(self.batch_size), self.num)
        place = first_place + jnp.asarray(offset, jnp.uint32)  # below 2 num, which is below 2^32
        is_next = place >= self.num
        place -= jnp.where(is_next, jnp.uint32(self.num), jnp.uint32(0))
        epochs_on = jnp.asarray(epochs_on, jnp.uint32) + is_next.astype(jnp.uint32)
        num_epochs = (self.batch_size + self.num - 2) // self.num + 1  # that a batch can have a part of
        epoch_keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
            self.rng_key, first_epoch + jnp.arange(num_epochs, dtype=jnp.uint32)
        )
        round_keys = jax.vmap(_round_keys)(epoch_keys)[epochs_on]
        return jax.vmap(_permute, in_axes=(0, 0, None))(round_keys, place, self.num)

    def tree_flatten(self) -> tuple[tuple, tuple]:
        """Children and static part."""
        return (self.rng_key, self.arrays), (self.num, self.batch_size, self.with_replacement)

    @classmethod
    def tree_unflatten(cls, static: tuple, children: tuple) -> Any:
        """Undoes `tree_flatten`."""
        self = object.__new__(cls)
        self.rng_key, self.arrays = children
        self.num, self.batch_size, self.with_replacement = static
        return self


@jax.tree_util.register_pytree_node_class
class Binarised:
    """Batches of grey images as binary ones, drawn anew at every step: x ~ Bernoulli(grey value).

    "Resampled" or "dynamic" binarisation, as in Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR
    2016. Likelihoods differ by some nats from those of grey values or of a set binarised once: say which it was.
    """

    def __init__(self, rng_key: PRNGKey, batches: Callable[[Array | int], Array]):
        """
        Args:
          rng_key: consumed; the seed of the draws.
          batches: `step -> array` of values in [0, 1], floating-point numbers or booleans, such as `Minibatches` of one
            array.

        Raises:
          ValueError: if `batches` returns the same batch at every step, or values that are integers, NaN or outside
            [0, 1]. All values of `Minibatches` are checked, and of other sources those of the first batch.
        """
        checks.varies_with_step(batches, "batches")
        values = batches.arrays if isinstance(batches, Minibatches) else batches(0)
        for leaf in jax.tree.leaves(values):  # here, since a training loop traces the values
            checks.probability(batches=leaf)
        self.rng_key, self.batches = rng_key, batches

    def __call__(self, step: Array | int) -> Array:
        """The batch of that step: 0s and 1s in float32."""
        return noise.bernoulli(jax.random.fold_in(self.rng_key, step), self.batches(step))

    def tree_flatten(self) -> tuple[tuple, None]:
        """Children and static part."""
        return (self.rng_key, self.batches), None

    @classmethod
    def tree_unflatten(cls, static: None, children: tuple) -> Any:
        """Undoes `tree_flatten`."""
        self = object.__new__(cls)
        self.rng_key, self.batches = children
        return self


def number_batches(batches: Callable[[Array | int], PyTree]) -> Callable[[Array | int], types.Numbered]:
    """Batches with the number of their step, for losses whose weights change during an epoch.

    Args:
      batches: `step -> batch`, such as `Minibatches`.

    Raises:
      ValueError: if `batches` returns the same batch at every step.
    """
    checks.varies_with_step(batches, "batches")
    return jax.tree_util.Partial(_with_number, batches)


def _with_number(batches: Callable[[Array | int], PyTree], step: Array | int) -> types.Numbered:
    batch = batches(step)
    return types.Numbered(jnp.full(tree.leading_axis(batch, "batch"), step, jnp.int32), batch)


def stacked_minibatches(
    rng_keys: PRNGKey, arrays: PyTree, batch_size: int, *, shared: bool = False, with_replacement: bool = False
) -> Callable[[Array | int], PyTree]:
    """Minibatches of several data sets, or of one data set in several orders.

    Element i of a batch is the batch of `Minibatches(rng_keys[i], ...)` at that step.

    Args:
      rng_keys: one key for each data set or order, `[sets]`; consumed.
      arrays: leaves `[sets, num, ...]`; `[num, ...]` if `shared`.
      batch_size: examples from each set in a batch.
      shared: whether all sets are the same data set, given once.
      with_replacement: as in `Minibatches`.

    Returns:
      A function `step -> batch`, which is also a pytree, like `Minibatches`; the leaves are `[sets, batch_size, ...]`.

    Raises:
      ValueError: as `Minibatches`, or if the number of sets is not the number of keys.
    """
    if not shared and (num := tree.leading_axis(arrays, "arrays")) != len(rng_keys):
        raise ValueError(f"arrays must stack a set for each of the {len(rng_keys)} rng_keys; got {num}")
    # NumPy arrays would be copied to the device at every call.
    arrays = jax.tree.map(jnp.asarray, arrays)
    batches = jax.tree_util.Partial(
        functools.partial(_stacked_batch, batch_size, shared, with_replacement), rng_keys, arrays
    )
    jax.eval_shape(batches, 0)  # raises here what would otherwise be raised at the first step
    return batches


def independent_minibatches(
    rng_key: PRNGKey, arrays: PyTree, batch_size: int, num_chains: int, *, with_replacement: bool = False
) -> Callable[[Array | int], PyTree]:
    """Minibatches of one data set for several chains, with a separate order of the examples for each chain.

        kernel = kernels.particles(kernel, num_chains, batch_axis=0)
        batches = data.independent_minibatches(rng_key, arrays, batch_size, num_chains)

    Chains that see the same minibatches share the noise of the gradients, so their draws are correlated. R-hat, the
    effective sample size and standard errors over chains assume independent chains: from shared minibatches they are
    too good. Chain i sees the batches of `Minibatches(jax.random.split(rng_key, num_chains)[i], arrays, batch_size)`.

    Args:
      rng_key: consumed; the seed of all orders.
      arrays: a pytree whose leaves are `[num, ...]`.
      batch_size: examples per batch and chain.
      num_chains: the number of chains, at least 1.
      with_replacement: as in `Minibatches`.

    Returns:
      A function `step -> batch`, which is also a pytree, like `Minibatches`; the leaves are
      `[num_chains, batch_size, ...]`.

    Raises:
      ValueError: as `Minibatches`, or if `num_chains` is not positive.
    """
    checks.count(num_chains=num_chains)
    rng_keys = jax.random.split(rng_key, num_chains)
    return stacked_minibatches(rng_keys, arrays, batch_size, shared=True, with_replacement=with_replacement)


def _stacked_batch(
    batch_size: int, shared: bool, with_replacement: bool, rng_keys: PRNGKey, arrays: PyTree, step: Array | int
) -> PyTree:
    def one(rng_key: PRNGKey, arrays: PyTree) -> PyTree:
        return Minibatches(rng_key, arrays, batch_size, with_replacement=with_replacement)(step)

    return jax.vmap(one, in_axes=(0, None if shared else 0))(rng_keys, arrays)


def permute_index(rng_key: PRNGKey, index: Array, num: int) -> Array:
    """The element at `index` of a random permutation of 0 .. num - 1 fixed by the key; O(1), nothing is stored.

    Six Feistel rounds permute the smallest square power of two >= num; a value outside is permuted again until it falls
    inside (Black & Rogaway, "Ciphers with arbitrary finite domains", 2002), at most four times on average.

    Args:
      rng_key: consumed; equal keys give the same permutation.
      index: integer scalar in 0 .. num - 1.
      num: length of the permutation.
    """
    return _permute(_round_keys(rng_key), index, num)


def _product_divided(step: Array | int, batch_size: int, num: int) -> tuple[Array, Array]:
    """Quotient (modulo 2^32) and remainder of step * batch_size over num, exact although the product may exceed 2^32.

    Long division: digits of the step are so short that a digit times a remainder fits into 32 bits.

        step = sum_i digit_i 2^(k i),   batch_size 2^(k i) = whole_i num + part_i,   k = 32 - bits of num
    """
    step, digit_bits = jnp.asarray(step, jnp.uint32), 32 - num.bit_length()
    quotient = remainder = jnp.zeros_like(step)
    for shift in range(0, 32, digit_bits):
        whole, part = divmod(batch_size << shift, num)
        digit = (step >> shift) & jnp.uint32(2**digit_bits - 1)
        product = digit * jnp.uint32(part)
        remainder += product % num
        carry = (remainder >= num).astype(jnp.uint32)
        remainder -= carry * jnp.uint32(num)
        quotient += digit * jnp.uint32(whole % 2**32) + product // num + carry
    return quotient, remainder


def _round_keys(rng_key: PRNGKey) -> Array:
    return jax.random.bits(rng_key, (6,), jnp.uint32)


def _permute(round_keys: Array, place: Array, num: int) -> Array:
    half_bits = max(1, -(-(num - 1).bit_length() // 2))
    mask = jnp.uint32(2**half_bits - 1)

    def cipher(value: Array) -> Array:
        left, right = value >> half_bits, value & mask
        for round_key in round_keys:
            left, right = right, left ^ (_mix(right ^ round_key) & mask)
        return (left << half_bits) | right

    first = cipher(jnp.asarray(place, jnp.uint32))
    return jax.lax.while_loop(lambda value: value >= num, cipher, first).astype(jnp.int32)


def _mix(x: Array) -> Array:
    """A 32-bit integer hash (the finaliser of MurmurHash3): every input bit affects every output bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
