"""What states keep and what infos report: gradients of their own position, temperatures, divergences, bad starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import tree
from bayesjax.kernels import hmc, nuts, particles
from tests.kernels.test_hmc import gaussian, quick_jit


@pytest.mark.parametrize(("method", "num_chains"), [(hmc, None), (hmc, 4), (nuts, None)])
def test_a_replaced_position_is_evaluated_anew(method, num_chains):
    """`state._replace(position=...)` gives the draw of a fresh state at that position, to the last bit.

    Of four chains, only one is replaced; a step whose position is its own has no evaluation too many (above).
    """
    arguments = {"num_integration_steps": 2} if method is hmc else {"max_num_doublings": 2}
    kernel, position = method(gaussian, step_size=0.3, **arguments), {"x": jnp.array([1.0, -0.5, 0.3])}
    moved = {"x": jnp.array([-3.0, 2.0, 1.0])}
    if num_chains:
        kernel, position = particles(kernel, num_chains), tree.stack([position] * num_chains)
        moved = {"x": position["x"].at[2].set(moved["x"])}
    step = quick_jit(kernel.step)
    state, _ = step(jax.random.key(1), kernel.init(position, jax.random.key(0)), None)
    replaced, _ = step(jax.random.key(2), state._replace(position=moved), None)
    fresh, _ = step(jax.random.key(2), kernel.init(moved, jax.random.key(0)), None)
    for name in ("position", "logdensity", "gradient"):
        jax.tree.map(np.testing.assert_array_equal, getattr(replaced, name), getattr(fresh, name))
