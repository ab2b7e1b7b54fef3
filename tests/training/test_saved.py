"""Runs that are read back without their program: parameters, averages, draws, diagnostics, metrics and errors."""

import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import kernels, posteriors, training
from bayesjax.types import Given

BATCH = jnp.array([0.1, -0.4, 0.9])


def position():
    return {"body": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, "head": {"kernel": jnp.full(3, 0.5)}}


def logdensity(params, rng_key, batch):
    data = batch.data if isinstance(batch, Given) else batch
    out = jnp.tanh(params["body"]["kernel"].sum(axis=0) + params["body"]["bias"]) * params["head"]["kernel"]
    return -jnp.sum((out - data) ** 2) - sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


sghmc = functools.partial(kernels.sghmc, step_size=1e-2)


def adam(density):
    return kernels.optimize(posteriors.as_loss(density, 10), optax.adam(1e-2))


def game():
    return kernels.alternate(
        generator=kernels.averaging(adam(logdensity), 0.9), critic=kernels.particles(sghmc(logdensity), 2)
    )


def pair():
    return {"generator": position(), "critic": jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), position())}


CASES = {
    "sghmc": (lambda: sghmc(logdensity), position),
    "averaging": (lambda: kernels.averaging(adam(logdensity), 0.9), position),
    "by_path": (lambda: kernels.by_path(logdensity, {"head/*": sghmc, "*/bias": None, "*": adam}), position),
    "by_path, all parts move": (lambda: kernels.by_path(logdensity, {"head/*": sghmc, "*": adam}), position),
    "carrying": (lambda: kernels.carrying(kernels.averaging(carried(), 0.9), jnp.zeros(())), position),
    "alternate": (game, pair),
}


def carried():
    """A kernel whose loss hands a number on."""

    def loss(params, rng_key, batch):
        return -logdensity(params, rng_key, batch.batch), {"carry": batch.carry + 1}

    return kernels.optimize(loss, optax.adam(1e-2))


def trained(folder, kernel, start, **options):
    return training.run(
        jax.random.key(1), kernel, kernel.init(start, jax.random.key(0)), BATCH, num_steps=8, thinning=2,
        checkpointer=training.Checkpointer(folder, config={"width": 3}), **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_run_is_read_back_as_it_was(name, tmp_path):
    """Parameters, draws and diagnostics are those of the run, bit for bit, as nested dicts of NumPy arrays."""
    make, start = CASES[name]
    state, trace = trained(tmp_path, make(), start())
    saved = training.load(tmp_path)
    chex.assert_trees_all_equal(saved.params, jax.tree.map(np.asarray, state.position))
    chex.assert_trees_all_equal(saved.draws, trace.draws)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves((saved.params, saved.draws, saved.info)))
    assert len(jax.tree.leaves(saved.info)) == len(jax.tree.leaves(trace.info))
    assert saved.step == 8 and saved.config == {"width": 3} and saved.metrics == trace.metrics
    if name == "sghmc":
        np.testing.assert_array_equal(saved.info["logdensity"], trace.info.logdensity)
    if name == "carrying":
        chex.assert_trees_all_equal(saved.average, jax.tree.map(np.asarray, state.inner.average))
    if name == "averaging":
        chex.assert_trees_all_equal(saved.average, jax.tree.map(np.asarray, state.average))
    if name == "alternate":
        chex.assert_trees_all_equal(
            saved.average["generator"], jax.tree.map(np.asarray, state.players["generator"].average)
        )
        assert set(saved.average) == {"generator"}


def test_a_short_run_without_draws_and_a_kept_array(tmp_path):
    """A run whose draws are all burn-in has none; a draw that is one array is read as one array."""
    trained(tmp_path / "a", sghmc(logdensity), position(), num_burnin=8)
    assert training.load(tmp_path / "a").draws is None
    _, trace = trained(
        tmp_path / "b", sghmc(logdensity), position(), keep=lambda state: state.position["head"]["kernel"]
    )
    np.testing.assert_array_equal(training.load(tmp_path / "b").draws, trace.draws)


def test_names_with_quotes_dots_and_brackets(tmp_path):
    """Keys of dicts are read as they were; a position of one array is an array."""
    names = ("a.b", "c['d']", 'e"f', "g\nh", "")
    _, trace = trained(
        tmp_path, sghmc(lambda params, rng_key, batch: -sum(jnp.sum(x**2) for x in params.values())),
        {name: jnp.full(2, float(i)) for i, name in enumerate(names)},
    )  # fmt: skip
    saved = training.load(tmp_path)
    assert set(saved.params) == set(names)
    for name in names:
        np.testing.assert_array_equal(saved.draws[name], trace.draws[name])


def test_stages_of_an_experiment(tmp_path):
    """With one stage it is found; with several the message lists them."""
    trained(tmp_path / "checkpoints" / "warm-up", sghmc(logdensity), position())
    assert training.load(tmp_path).step == 8
    trained(tmp_path / "checkpoints" / "sampling", sghmc(logdensity), position())
    assert training.load(tmp_path, "sampling").folder == tmp_path / "checkpoints" / "sampling"
    with pytest.raises(training.CheckpointError, match=r"stage must be one of sampling, warm-up in .*; got None"):
        training.load(tmp_path)
    with pytest.raises(training.CheckpointError, match="got burn-in"):
        training.load(tmp_path, "burn-in")
    with pytest.raises(training.CheckpointError, match="stage 'a' needs the run folder of an experiment"):
        training.load(tmp_path / "checkpoints" / "warm-up", "a")


def test_errors(tmp_path):
    """A folder without a save, a damaged save, and a run without an average give one line each."""
    with pytest.raises(training.CheckpointError, match="holds no complete save"):
        training.load(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    trained(tmp_path, sghmc(logdensity), position())
    with pytest.raises(ValueError, match="keeps no average; its state has step, position, momentum"):
        _ = training.load(tmp_path).average
    (save,) = tmp_path.glob("step_*")
    run = json.loads((save / "run.json").read_text())
    run["identity"]["state"] = dict(list(run["identity"]["state"].items())[:-1])
    (save / "run.json").write_text(json.dumps(run))
    with pytest.raises(training.CheckpointError, match=r"arrays; run\.json lists"):
        training.load(tmp_path)
    (save / "run.json").write_text("{")
    with pytest.raises(training.CheckpointError, match="cannot read the checkpoint"):
        training.load(tmp_path)
