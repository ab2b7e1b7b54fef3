"""Draws and diagnostics as ArviZ has them: names, groups, and a file that can be read again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import evaluation, kernels, training

arviz = pytest.importorskip("arviz")
RANDOM = np.random.default_rng(0)
DRAWS = {"Dense_0": {"kernel": RANDOM.normal(size=(5, 3, 2, 4))}, "scale": RANDOM.normal(size=(5, 3))}


def test_inference_data():
    """Draws by the paths of their leaves, chains first; the info by ArviZ's names; what is no number a draw is left."""
    chains = evaluation.chains_first(DRAWS)
    info = {"is_divergent": np.eye(3, 5), "energy": np.ones((3, 5)), "aux": np.ones((3, 5, 2)), "mine": np.ones((3, 5))}
    data = evaluation.to_inference_data(chains, info)
    np.testing.assert_array_equal(data.posterior["Dense_0.kernel"][1, 2], DRAWS["Dense_0"]["kernel"][2, 1])
    assert dict(data.posterior.sizes)["chain"] == 3
    assert set(data.sample_stats) == {"diverging", "energy", "mine"}
    assert data.sample_stats["diverging"].dtype == bool
    assert "sample_stats" not in evaluation.to_inference_data(chains).groups()


def test_a_file_can_be_written_and_read(tmp_path):
    """Nested names, a leaf alone, bfloat16 and a nested info, after a burn-in: everything comes back from netCDF."""
    pytest.importorskip("h5netcdf")
    kernel = kernels.particles(kernels.hmc(lambda p, key, batch: -0.5 * (p["a"]["b"] ** 2).sum(), step_size=0.5,
                                           num_integration_steps=2), num=3)  # fmt: skip
    state = kernel.init({"a": {"b": jnp.zeros((3, 2))}}, jax.random.key(0))
    _, trace = training.run(jax.random.key(1), kernel, state, num_steps=12, num_burnin=4, thinning=2)
    draws = evaluation.chains_first({"net": trace.draws, "half": jnp.ones((4, 3), jnp.bfloat16)})
    data = evaluation.to_inference_data(draws, {"inner": evaluation.chains_first(trace.info)._asdict()})
    data.to_netcdf(str(tmp_path / "draws.nc"))
    read = arviz.from_netcdf(str(tmp_path / "draws.nc"))
    assert set(read.posterior) == {"net.a.b", "half"}
    np.testing.assert_array_equal(read.posterior["net.a.b"], draws["net"]["a"]["b"])
    assert {"acceptance_rate", "diverging"} <= set(read.sample_stats)
    assert read.sample_stats["acceptance_rate"].shape == (3, 4)


@pytest.mark.parametrize(
    ("draws", "info", "message"),
    [
        ({"a": np.zeros((3, 5))}, {"energy": np.ones((5, 3))}, r"draws, \(3, 5\); got energy \(5, 3\)"),
        ({"a": np.zeros((3, 5))}, {"energy": np.ones((3, 9))}, r"draws, \(3, 5\); got energy \(3, 9\)"),
        ({"a": np.zeros((3, 5)), "b": np.zeros((3, 4))}, None, r"draws must have leaves \[num_chains, num_draws"),
        ({"a": {"b": np.zeros((3, 5))}, "a.b": np.zeros((3, 5))}, None, "distinct names .* got a.b"),
        ({"draw": np.zeros((3, 5))}, None, "other than chain and draw; got draw"),
    ],
)
def test_refused(draws, info, message):
    """Draws first, a warm-up in the info, leaves that disagree, names that clash."""
    with pytest.raises(ValueError, match=message):
        evaluation.to_inference_data(draws, info)
