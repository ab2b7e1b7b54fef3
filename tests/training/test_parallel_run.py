"""`training.run` and its checkpoints with a kernel that is spread over devices."""

import jax
import pytest
from test_parallel import KERNELS, KEY, POSITION, assert_same, batch

from bayesjax import data, kernels, training, tree
from bayesjax.training.parallel import spread

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"data": 2, "particle": 2}, id="both"),
        pytest.param({"particle": 4, "transform": "pmap"}, marks=pytest.mark.slow, id="pmap"),
    ],
)
def test_run_takes_a_spread_kernel(tmp_path, parts):
    """`training.run` moves a spread kernel as any other, and resumes it bit for bit."""
    kernel = spread(kernels.particles(KERNELS["sghmc"], 4), **parts)
    position, source = tree.stack([POSITION] * 4), data.Minibatches(jax.random.key(1), batch(), 8)

    def go(folder, num_steps):
        checkpointer = training.Checkpointer(tmp_path / folder)
        return training.run(
            KEY, kernel, kernel.init(position, KEY), source, num_steps=num_steps, chunk_size=4, thinning=2,
            checkpointer=checkpointer,
        )  # fmt: skip

    whole, trace = go("whole", 8)
    go("parts", 4)
    resumed, resumed_trace = go("parts", 8)
    assert_same(jax.device_get(resumed), jax.device_get(whole), 0.0)
    assert_same(resumed_trace.draws, trace.draws, 0.0)
