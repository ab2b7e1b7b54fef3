"""The benchmark of NUTS: what is counted, what is not comparable, and one small run of every library."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.evaluation.targets import Target
from benchmarks import nuts, report


def drawn(spread=1.0, centre=0.0, seed=0, gradients=10_000.0):
    """Eight chains of 500 independent draws of two quantities."""
    quantities = centre + spread * np.random.default_rng(seed).normal(size=(8, 500, 2))
    return nuts.Drawn(quantities.astype(np.float32), np.full(8, gradients), np.full(8, 7.0), 0.0)


@pytest.mark.slow
def test_effective_draws_of_gradients():
    """2000 independent draws for 40 000 gradients are about 50 of 1000; half the gradients, twice as many."""
    found, half = nuts.judged(drawn(), 4), nuts.judged(drawn(gradients=5_000.0), 4)
    assert found["value"] == pytest.approx(50, rel=0.3)
    assert half["value"] == pytest.approx(2 * found["value"], rel=1e-6)
    assert len(found["groups"]) == 2
    assert (found["gradients_per_draw"], found["warmup_gradients"]) == (20, 7)


def test_a_ratio_is_of_one_law():
    """Means apart, means off the exact ones, chains apart: no ratio; else its error, and whether the bar is met."""
    own, peer, shifted = (nuts.judged(each, 4) for each in (drawn(), drawn(seed=1), drawn(centre=0.5, seed=2)))
    assert nuts.is_same_law(own, peer) and nuts.is_same_law(own, peer, np.zeros(2))
    assert not nuts.is_same_law(own, shifted)
    assert not nuts.is_same_law(own, peer, np.ones(2))
    apart = drawn()
    apart.quantities[0] += 2
    stuck = nuts.judged(apart, 4)
    assert not nuts.is_same_law(stuck, stuck)
    assert nuts.ratio(own, peer, is_comparable=False)["value"] is None
    other = peer | {"value": 10.0, "stderr": 0.5}
    found = nuts.ratio(own | {"value": 9.0, "stderr": 0.3}, other, is_comparable=True)
    assert found["value"] == pytest.approx(0.9)
    assert found["stderr"] == pytest.approx(0.9 * np.hypot(0.3 / 9, 0.5 / 10))
    assert found["met"] is True
    worse = nuts.ratio(own | {"value": 8.0, "stderr": 0.1}, other | {"stderr": 0.1}, is_comparable=True)
    assert worse["met"] is False


@pytest.mark.slow
def test_every_library_samples(tmp_path, monkeypatch, capsys):
    """Two normals of deviations 1 and 2: a table with three libraries, and no deviation off by more than a tenth."""
    pytest.importorskip("numpyro")
    scales = jnp.array([1.0, 2.0])
    target = Target(
        lambda x: -0.5 * jnp.sum((x / scales) ** 2), lambda key: jnp.ones(2), lambda x: x, ("a", "b"),
        (np.zeros(2), np.array([1.0, 2.0])),
    )  # fmt: skip
    monkeypatch.setitem(nuts.TARGETS, "gaussian", lambda: target)
    config = nuts.Config(
        targets=("gaussian",), num_groups=2, num_warmup=200, num_draws=500, out=str(tmp_path / "n.json")
    )
    nuts.main(config)
    assert "| gaussian " in capsys.readouterr().out
    results = json.loads((tmp_path / "n.json").read_text())
    assert report.render(json.loads((tmp_path / "n.json").read_text()))
    for library in nuts.LIBRARIES:
        found = results["effective_draws_per_1000_gradients"][f"gaussian {library}"]
        assert found["value"] > 50
        assert found["warmup_gradients"] > 200
    assert all(entry["value"] > 0.5 for entry in results["ratios"].values())
