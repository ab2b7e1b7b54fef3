"""The compiled part of a run: a scan of draws, each a scan of `thinning` steps of the kernel."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bayesjax import tree
from bayesjax.training import identity, processes
from bayesjax.types import Array, Kernel, PRNGKey, PyTree


class Chunks:
    """Programs of `length` steps, each compiled once; the kernel is traced once for all of one thinning.

    Args:
      kernel, data, keep: as `run` takes them.
      rng_key: step t uses `fold_in(rng_key, t)`.
      example: a state of the run's structure, shapes, types and places.
    """

    def __init__(self, kernel: Kernel, data: PyTree, keep: Callable, rng_key: PRNGKey, example: Any):
        is_function = callable(data)
        is_argument = not (is_function and jax.tree_util.all_leaves([data]))
        self._kept_fixed = rng_key, (data if is_argument else None)
        self._example, self._keep, self._data = example, keep, data
        self._compiled: dict[tuple[int, int], Callable] = {}

        def one_draw(thinning: int, rng_key: PRNGKey, argument: PyTree, state: Any, first: Array):
            source = argument if is_argument else data

            def one_step(state: Any, step: Array):
                batch = source(step) if is_function else source
                return kernel.step(jax.random.fold_in(rng_key, step), state, batch)

            state, infos = jax.lax.scan(one_step, state, first + jnp.arange(thinning))
            return state, keep(state), jax.tree.map(lambda leaf: leaf.mean(axis=0), infos)

        # Inlined, it adds nothing to the program, but JAX keeps its trace.
        self._one_draw = jax.jit(one_draw, static_argnums=0, inline=True)

        def chunk(length: int, thinning: int, rng_key: PRNGKey, argument: PyTree, done: Array, start: Any):
            def draw(state: Any, first: Array):
                state, kept, info = self._one_draw(thinning, rng_key, argument, state, first)
                return state, (kept, info)

            end, (kept, info) = jax.lax.scan(draw, start, done + jnp.arange(0, length, thinning))
            return end, kept, info, _stays_finite(start, end)

        self._chunk = jax.jit(chunk, static_argnums=(0, 1))

    def compiled(self, length: int, thinning: int) -> Callable:
        """`(done, state) -> (state, kept, info, is_finite)`: `length` steps after `done` of them."""
        if (length, thinning) not in self._compiled:
            lowered = self._chunk.lower(length, thinning, *self._kept_fixed, jnp.int32(0), self._example)
            self._compiled[length, thinning] = lowered.compile()
            processes.barrier()
        return lambda done, state: self._compiled[length, thinning](*self._kept_fixed, done, state)

    def structure(self, thinning: int) -> PyTree:
        """The structure of a piece of the record: draws, their infos, those of the burn-in."""
        _, kept, info = self._traced(thinning).out_info
        return jax.tree.structure((kept, info, info))

    def describe(self, thinning: int) -> dict:
        """The part of the identity that follows from kernel, data and state (`identity.difference`)."""
        traced = self._traced(thinning)
        _, kept, info = traced.out_info
        return {
            "state": identity.shapes(self._example),
            "kept": identity.shapes(kept),
            "info": identity.shapes(info),
            "program": identity.program(traced, self._keep, self._data, self._example),
        }

    def _traced(self, thinning: int) -> Any:
        return self._one_draw.trace(thinning, *self._kept_fixed, identity.like(self._example), jnp.int32(0))


def _stays_finite(start: PyTree, end: PyTree) -> Array:
    """Whether every leaf that was finite still is. A leaf may begin infinite, as the best loss of an optimiser does."""
    changes = zip(jax.tree.leaves(start), jax.tree.leaves(end), strict=True)
    return jnp.all(
        jnp.array([~tree.all_finite(before) | tree.all_finite(after) for before, after in changes] or [True])
    )
