"""Application of a function of one example to many examples in chunks, which bounds the memory.

Read `likelihood.py` next, which uses it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bayesjax.types import Array, ArrayLike, PRNGKey


def map_in_chunks(
    function: Callable[[Any, PRNGKey, Array], Any], params: Any, rng_key: PRNGKey, x: ArrayLike, chunk_size: int
) -> Any:
    """Applies `function(params, key, example)` to every example, in one compiled loop over chunks.

    Args:
      function: `(params, key, example) -> pytree of arrays`, a pure function of one example.
      params: first argument of every call.
      rng_key: the key of example i is `fold_in(rng_key, i)`.
      x: examples `[num, ...]`.
      chunk_size: largest number of examples that are evaluated at once, under `vmap`.

    Returns:
      Results with a leading axis `[num, ...]` on every leaf.

    Raises:
      ValueError: if `x` has no examples.
    """
    examples = jnp.asarray(x)
    num = len(examples) if examples.ndim else 0
    if num == 0:
        raise ValueError(f"x must be [num >= 1, ...]; got shape {examples.shape}")

    # All chunks have the same size, and the last one is filled up. A smaller chunk would be compiled separately.
    num_chunks = -(-num // chunk_size)
    size = -(-num // num_chunks)

    @jax.jit
    def loop(params: Any, rng_key: PRNGKey, examples: Array) -> Any:
        index = jnp.arange(num_chunks * size) % num
        keys = jax.vmap(functools.partial(jax.random.fold_in, rng_key))(index)

        def one_chunk(chunk: tuple[Array, PRNGKey]) -> Any:
            rows, keys = chunk
            return jax.vmap(functools.partial(function, params))(keys, examples[rows])

        results = lax.map(one_chunk, (index.reshape(num_chunks, size), keys.reshape(num_chunks, size)))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num], results)

    return loop(params, rng_key, examples)
