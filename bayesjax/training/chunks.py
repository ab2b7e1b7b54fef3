"""The compiled part of a run: a scan over draws, each of which is a scan over `thinning` steps of the kernel.

A chunk may also be a part of the steps of one draw. It then calls `keep` only if it ends with the draw.

Read `run.py` for the loop that calls it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.data.streams import Stream
from bayesjax.training import identity, processes, shares
from bayesjax.types import Array, Kernel, PRNGKey, PyTree


class Chunks:
    """Compiled programs of `length` steps, one for each pair of length and number of steps of the inner scan.

    The kernel is traced once for all lengths with the same number of steps of the inner scan.

    Args:
      kernel, data, keep, thinning: as in `run`.
      rng_key: step t uses `fold_in(rng_key, t)`.
      example: a state with the structure, shapes, types and device placement of the run's states.
    """

    def __init__(self, kernel: Kernel, data: PyTree, keep: Callable, rng_key: PRNGKey, example: Any, thinning: int):
        is_function, is_stream = callable(data), isinstance(data, Stream)
        is_argument = not is_stream and not (is_function and jax.tree_util.all_leaves([data]))
        self._constants = rng_key, (data if is_argument else None)
        self._example, self._keep, self._data = example, keep, data
        self._sharding = shares.sharding(data, example) if is_stream else None
        self._compiled: dict[tuple[int, int], Callable] = {}

        def keep_at(step: Array, state: Any) -> PyTree:
            empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(keep, state))
            return jax.lax.cond(step % thinning == 0, keep, lambda _: empty, state)

        def one_draw(num_steps: int, rng_key: PRNGKey, argument: PyTree, state: Any, first: Array, batches: PyTree):
            source = argument if is_argument else data

            def one_step(state: Any, step_and_batch: tuple[Array, PyTree]):
                step, batch = step_and_batch
                if not is_stream:
                    batch = source(step) if is_function else source
                return checks.step_result(kernel.step(jax.random.fold_in(rng_key, step), state, batch), state)

            state, infos = jax.lax.scan(one_step, state, (first + jnp.arange(num_steps), batches))
            kept = keep(state) if num_steps == thinning else keep_at(first + num_steps, state)
            return state, kept, jax.tree.map(lambda leaf: leaf.mean(axis=0), infos)

        # The inlined jit does not change the program, and JAX caches its trace.
        self._one_draw = jax.jit(one_draw, static_argnums=0, inline=True)

        def chunk(
            length: int, inner: int, rng_key: PRNGKey, argument: PyTree, done: Array, start: Any, batches: PyTree
        ):
            def draw(state: Any, first_and_batches: tuple[Array, PyTree]):
                state, kept, info = self._one_draw(inner, rng_key, argument, state, *first_and_batches)
                return state, (kept, info)

            by_draw = jax.tree.map(lambda leaf: leaf.reshape(-1, inner, *leaf.shape[1:]), batches)
            end, (kept, info) = jax.lax.scan(draw, start, (done + jnp.arange(0, length, inner), by_draw))
            return end, kept, info, _stays_finite(start, end)

        self._chunk = jax.jit(chunk, static_argnums=(0, 1))

    def compiled(self, length: int, inner: int) -> Callable:
        """Returns `(done, state, batches) -> (state, kept, info, is_finite)`: `length` steps after step `done`.

        The batches are those of a stream, stacked `[length, ...]`, or this process's shares of them. They are None for
        other data.

        Args:
          length: number of steps, a multiple of `inner`.
          inner: number of steps over which infos are averaged.
        """
        if (length, inner) not in self._compiled:
            arguments = *self._constants, jnp.int32(0), self._example, self._example_batches(length, self._sharding)
            self._compiled[length, inner] = self._chunk.lower(length, inner, *arguments).compile()
            processes.barrier()
        return lambda done, state, batches: self._compiled[length, inner](
            *self._constants, done, state, shares.place(batches, self._sharding)
        )

    def structure(self, inner: int) -> PyTree:
        """The tree structure of a piece of the record: draws, their infos, and the infos of the burn-in."""
        _, kept, info = self._traced(inner).out_info
        return jax.tree.structure((kept, info, info))

    def describe(self, inner: int) -> dict:
        """Returns the part of the run's identity that the kernel, the data and the state determine (`identity.py`)."""
        traced = self._traced(inner)
        _, kept, info = traced.out_info
        return {
            "state": identity.shapes(self._example),
            "kept": identity.shapes(kept),
            "info": identity.shapes(info),
            "program": identity.program_digests(traced, self._keep, self._data, self._example),
        }

    def _traced(self, inner: int) -> Any:
        start = identity.abstract(self._example)
        return self._one_draw.trace(inner, *self._constants, start, jnp.int32(0), self._example_batches(inner))

    def _example_batches(self, num: int, sharding: Any = None) -> PyTree:
        """Shapes and types of `num` stacked batches of a stream, or None for other data."""
        if not isinstance(self._data, Stream):
            return None
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((num, *leaf.shape), leaf.dtype, sharding=sharding),
            self._data.whole_example,
        )


def _stays_finite(start: PyTree, end: PyTree) -> Array:
    """Whether every leaf that starts finite ends finite. An optimiser's best loss, for example, starts infinite."""
    changes = zip(jax.tree.leaves(start), jax.tree.leaves(end), strict=True)
    return jnp.all(
        jnp.array([~tree.all_finite(before) | tree.all_finite(after) for before, after in changes] or [True])
    )
