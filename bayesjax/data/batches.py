"""Minibatches as a pure function of the seed and the step, so that a resumed run receives the same batches.

    batch = batches(step)       for any step, in any order, on any device; no state passes from batch to batch

Every epoch is a new permutation of the data. Permutations are not stored. Element i of the permutation of epoch e is
computed on demand by a small block cipher with a key derived from e: a Feistel network, applied until the result is an
index of the data. Read `kernels/particles.py` next for chains with separate minibatches.
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
    """Shuffled minibatches: a function `step -> batch` that is also a pytree, so that it can be an argument of jit.

    Every epoch visits each example once, in a new order. A batch may contain the end of one epoch and the start of the
    next. The gradients of the batches of an epoch add up to the gradient on all data, which helps optimisers and lowers
    the temperature of SGHMC. Batches drawn with replacement are independent of each other. The theory of samplers with
    noisy gradients assumes that independence, and `kernels.sgnht` requires it.
    """

    def __init__(self, rng_key: PRNGKey, arrays: PyTree, batch_size: int, *, with_replacement: bool = False):
        """
        Args:
          rng_key: consumed; it determines the order of the examples.
          arrays: a pytree with leaves `[num, ...]`.
          batch_size: examples per batch. It may exceed num; a batch then contains examples more than once.
          with_replacement: whether the examples of a batch are drawn independently, instead of in epochs.

        Raises:
          ValueError: if the leaves differ in length or have 2^31 examples or more, or if `batch_size` is not positive.
        """
        self.num = tree.leading_axis(arrays, "arrays")
        if batch_size < 1 or self.num < 1:
            raise ValueError(f"batch_size must be at least 1 and arrays not empty; got {batch_size} and {self.num}")
        if self.num >= 2**31:
            raise ValueError(f"arrays must hold fewer than 2^31 examples, which int32 can number; got {self.num}")
        self.rng_key, self.batch_size, self.with_replacement = rng_key, batch_size, with_replacement
        self.arrays = jax.tree.map(jnp.asarray, arrays)

    def __call__(self, step: Array | int) -> PyTree:
        """Returns the batch of a step in 0 .. 2^32 - 1: leaves `[batch_size, ...]`.

        The orders repeat after 2^32 epochs.
        """
        index = self._independent_indices(step) if self.with_replacement else self._shuffled_indices(step)
        return jax.tree.map(lambda leaf: leaf[index], self.arrays)

    def _independent_indices(self, step: Array | int) -> Array:
        return jax.random.randint(jax.random.fold_in(self.rng_key, step), (self.batch_size,), 0, self.num)

    def _shuffled_indices(self, step: Array | int) -> Array:
        return _epoch_indices(self.rng_key, jnp.asarray(step, jnp.uint32), self.batch_size, self.num)

    def tree_flatten(self) -> tuple[tuple, tuple]:
        """Returns the children and the static part of the pytree."""
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
    """Binary images, drawn anew from grey images at every step: x ~ Bernoulli(grey value).

    This is the dynamic binarisation of Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.
    Its likelihoods differ by several nats from those of grey values and of fixed binarisation, so report its use.
    """

    def __init__(self, rng_key: PRNGKey, batches: Callable[[Array | int], Array]):
        """
        Args:
          rng_key: consumed; it determines the draws.
          batches: `step -> array` of floating-point numbers in [0, 1] or booleans, such as `Minibatches` of one array.

        Raises:
          ValueError: if `batches` returns the same batch at every step, or values that are integers, NaN or outside
            [0, 1]. All values of a `Minibatches` are checked; for other functions only the batch of step 0.
        """
        checks.varies_with_step(batches, "batches")
        values = batches.arrays if isinstance(batches, Minibatches) else batches(0)
        # The values are checked here, because they are traced in a training loop.
        for leaf in jax.tree.leaves(values):
            checks.probability(batches=leaf)
        self.rng_key, self.batches = rng_key, batches

    def __call__(self, step: Array | int) -> Array:
        """Returns the batch of a step: zeros and ones in float32."""
        return noise.bernoulli(jax.random.fold_in(self.rng_key, step), self.batches(step))

    def tree_flatten(self) -> tuple[tuple, None]:
        """Returns the children and the static part of the pytree."""
        return (self.rng_key, self.batches), None

    @classmethod
    def tree_unflatten(cls, static: None, children: tuple) -> Any:
        """Undoes `tree_flatten`."""
        self = object.__new__(cls)
        self.rng_key, self.batches = children
        return self


def number_batches(batches: Callable[[Array | int], PyTree]) -> Callable[[Array | int], types.Numbered]:
    """Attaches the number of the step to every batch, for losses whose weights change from step to step.

    Args:
      batches: `step -> batch`, such as `Minibatches`.

    Returns:
      A function `step -> Numbered(step [batch_size], batch)`, which is also a pytree, like `Minibatches`.

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
    """Returns minibatches of several data sets, or of one data set in several orders, stacked on a leading axis.

    Element i of a batch is the batch of `Minibatches(rng_keys[i], ...)` at the same step.

    Args:
      rng_keys: one key for each data set or order, `[num_sets]`; consumed.
      arrays: leaves `[num_sets, num, ...]`, or `[num, ...]` if `shared`.
      batch_size: examples from each data set per batch.
      shared: whether `arrays` is one data set that is used in all orders.
      with_replacement: as in `Minibatches`.

    Returns:
      A function `step -> batch`, which is also a pytree, like `Minibatches`; the leaves are
      `[num_sets, batch_size, ...]`.

    Raises:
      ValueError: in the cases that `Minibatches` states, or if the number of sets is not the number of keys.
    """
    if not shared and (num := tree.leading_axis(arrays, "arrays")) != len(rng_keys):
        raise ValueError(f"arrays must stack a set for each of the {len(rng_keys)} rng_keys; got {num}")
    # NumPy arrays would be copied to the device at every call.
    arrays = jax.tree.map(jnp.asarray, arrays)
    batches = jax.tree_util.Partial(
        functools.partial(_stacked_batch, batch_size, shared, with_replacement), rng_keys, arrays
    )
    jax.eval_shape(batches, 0)  # raises errors here instead of at the first step
    return batches


def independent_minibatches(
    rng_key: PRNGKey, arrays: PyTree, batch_size: int, num_chains: int, *, with_replacement: bool = False
) -> Callable[[Array | int], PyTree]:
    """Returns minibatches of one data set for several chains, with a separate order of the examples for each chain.

        kernel = kernels.particles(kernel, num_chains, batch_axis=0)
        batches = data.independent_minibatches(rng_key, arrays, batch_size, num_chains)

    Chains on the same minibatches share the noise of the gradients, so their draws are correlated. R-hat, the effective
    sample size and standard errors over chains assume independent chains and are too optimistic for shared minibatches.
    Chain i receives the batches of `Minibatches(jax.random.split(rng_key, num_chains)[i], arrays, batch_size)`.

    Args:
      rng_key: consumed; it determines the orders of all chains.
      arrays: a pytree with leaves `[num, ...]`.
      batch_size: examples per batch of each chain.
      num_chains: number of chains, at least 1.
      with_replacement: as in `Minibatches`.

    Returns:
      A function `step -> batch`, which is also a pytree, like `Minibatches`; the leaves are
      `[num_chains, batch_size, ...]`.

    Raises:
      ValueError: in the cases that `Minibatches` states, or if `num_chains` is not positive.
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
    """Returns the element at `index` of the random permutation of 0 .. num - 1 that the key determines, in time O(1).

    Six rounds of a Feistel network permute the integers below the smallest power of four that is at least num. A
    result of num or more is permuted again until it is below num. That takes at most four permutations on average.

    Args:
      rng_key: consumed; equal keys give the same permutation.
      index: integer scalar in 0 .. num - 1.
      num: length of the permutation.

    Returns:
      An int32 scalar.

    Source: Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.
    """
    return _permute(_round_keys(rng_key), index, num)


@functools.partial(jax.jit, static_argnums=(2, 3))  # its 300 operations are traced once for all programs of one size
def _epoch_indices(rng_key: PRNGKey, step: Array, batch_size: int, num: int) -> Array:
    """The indices `[batch_size]` of the examples of a step. Each epoch has its own order of the examples."""
    first_epoch, first_place = _divmod_product(step, batch_size, num)
    epochs_on, offset = np.divmod(np.arange(batch_size), num)
    place = first_place + jnp.asarray(offset, jnp.uint32)  # below 2 num, which is below 2^32
    is_next = place >= num
    place -= jnp.where(is_next, jnp.uint32(num), jnp.uint32(0))
    epochs_on = jnp.asarray(epochs_on, jnp.uint32) + is_next.astype(jnp.uint32)
    num_epochs = (batch_size + num - 2) // num + 1  # the most epochs that one batch can span
    epoch_keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
        rng_key, first_epoch + jnp.arange(num_epochs, dtype=jnp.uint32)
    )
    round_keys = jax.vmap(_round_keys)(epoch_keys)[epochs_on]
    return jax.vmap(_permute, in_axes=(0, 0, None))(round_keys, place, num)


def _divmod_product(step: Array | int, batch_size: int, num: int) -> tuple[Array, Array]:
    """Quotient modulo 2^32 and remainder of step * batch_size divided by num, exact even if the product exceeds 2^32.

    The method is long division. The digits of the step are short enough that a digit times a remainder fits in 32 bits.

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
    """The finaliser of MurmurHash3, a hash of 32-bit integers in which every input bit affects every output bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
