"""The roofline's arithmetic by hand and beside a published profile; compiled steps beside formulas (slow)."""

import importlib.util
import json
import math

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from bayesjax import models
from benchmarks import hlo, report, tpu, tpu_workloads

ALL_GATHER = hlo.Collective("all-gather", 34_000_000, 4, 1)


def test_a_step_takes_the_longer_of_products_and_memory_and_all_of_the_collectives():
    program = hlo.Program(197 * 10**9, 0, 819 * 10**5, [], [])
    assert tpu.roofline("v5e", 1, program)["seconds"] == pytest.approx(1e-3)
    program = program._replace(memory_bytes=4 * 819 * 10**6)
    assert tpu.roofline("v5e", 1, program)["seconds"] == pytest.approx(4e-3)
    one = tpu.exchange_seconds("v5e", 16, ALL_GATHER)
    program = program._replace(collectives=[ALL_GATHER, ALL_GATHER._replace(times=9)])
    assert tpu.roofline("v5e", 16, program)["seconds"] == pytest.approx(4e-3 + 10 * one)


def test_an_all_gather_agrees_with_a_published_profile():
    """jax-ml.github.io/scaling-book/sharding, quiz 2: 34 MB over an open axis of four v5e took 680 microseconds; the
    wires need 0.75 x 34 MB / 50 GB/s = 510."""
    seconds = tpu.exchange_seconds("v5e", 16, ALL_GATHER)
    assert seconds == pytest.approx(0.75 * 34e6 / 50e9 + 3e-6)
    assert 0.7 < seconds / 680e-6 < 1


@pytest.mark.parametrize(
    ("kind", "chips", "group", "expected"),
    [
        ("v5e", 256, 256, [(16, True), (16, True)]),
        ("v5e", 256, 16, [(16, True)]),
        ("v5e", 256, 4, [(4, False)]),
        ("v6e", 64, 64, [(8, False), (8, False)]),
        ("v6e", 64, 16, [(8, False), (2, False)]),
        ("v4", 16, 16, [(4, False), (2, False), (2, False)]),
        ("v4", 64, 64, [(4, True), (4, True), (4, True)]),
        ("v5p", 256, 16, [(8, True), (2, False)]),
    ],
)
def test_groups_lie_along_the_axes_of_the_slice(kind, chips, group, expected):
    assert tpu.rings(kind, chips, group) == expected


def test_rings():
    """Two closed axes of 16: four links, eight hops an axis; an all-reduce is two all-gathers; a neighbour is a hop."""
    seconds = tpu.exchange_seconds("v5e", 256, hlo.Collective("all-gather", 256_000_000, 256, 1))
    assert seconds == pytest.approx(255e6 / (4 * 50e9) + 16e-6)
    twice = tpu.exchange_seconds("v5e", 256, hlo.Collective("all-reduce", 256_000_000, 256, 1))
    assert twice == pytest.approx(2 * seconds)
    moved = tpu.exchange_seconds("v5e", 256, hlo.Collective("collective-permute", 10**6, 2, 1))
    assert moved == pytest.approx(10**6 / 50e9 + 1e-6)


def test_efficiency():
    """Half the time on four chips is half of what four can do; of work that grows with them, twice."""
    rows = [{"chips": 1, "seconds": 2.0}, {"chips": 4, "seconds": 1.0}]
    assert tpu.efficiency(rows, "strong") == [1.0, 0.5]
    assert tpu.efficiency(rows, "weak") == [1.0, 2.0]
    assert tpu.efficiency(rows[1:], "weak") == [None]


@pytest.mark.parametrize(
    ("flags", "has_libtpu", "message"),
    [
        ({}, False, "pip install -e '.[tpu]'"),
        ({"chips": (1, 5)}, True, "--chips must be among 1, 4, 16, 64, 256; got 5"),
        ({"workloads": ()}, True, "--workloads is empty"),
    ],
)
def test_what_cannot_be_is_one_line(flags, has_libtpu, message, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "somewhere" if has_libtpu else None)
    with pytest.raises(SystemExit) as stopped:
        tpu.main(tpu.Config(**flags))
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1


# ---- compiled for chips that are not there


@pytest.fixture(scope="module")
def costs(tmp_path_factory):
    """Results of a smoke run: every step on one and on four v5e, without a TPU."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("needs libtpu: pip install -e '.[tpu]'")
    out = tmp_path_factory.mktemp("tpu") / "tpu.json"
    tpu.main(tpu.Config(topologies=("v5e",), chips=(1, 4), size="smoke", out=str(out)))
    tables = report.render(json.loads(out.read_text()))
    assert "| hmc " in tables and "microsecond" in tables
    return {name: workload["on"]["v5e"] for name, workload in json.loads(out.read_text())["workloads"].items()}


def num_bytes(name):
    """The size in bytes of all parameters, which are float32."""
    position = tpu_workloads.WORKLOADS[name](1, "smoke").position
    return 4 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(position))


@pytest.mark.slow
def test_products_are_those_of_the_formula(costs):
    """Per gradient and example, forward, weights and, but for the first layer, inputs: an MLP 32-16-4 on 512 examples,
    three leapfrog steps (XLA counts one); a VAE 16-8-2 on 32 images a chip. The first layer's input gradient would be
    42 and 16 % more."""
    mlp, auto_encoder = (32 * 16, 16 * 4), (16 * 8, 8 * 4, 2 * 8, 8 * 16)
    for name, layers, examples in (("hmc", mlp, 3 * 512), ("vae", auto_encoder, 32)):
        for row in costs[name]:
            whole = row["flops"] * (row["chips"] if name == "hmc" else 1)
            assert whole == pytest.approx(2 * examples * (3 * sum(layers) - layers[0]), rel=0.02)
    assert costs["hmc"][0]["xla"]["flops"] < 0.9 * costs["hmc"][0]["flops"]


@pytest.mark.slow
def test_collectives_carry_the_gradient(costs):
    """Data parallel: one all-reduce a gradient, of its bytes and a few scalars. Particles: each player is gathered
    once, matrices as the bfloat16 that the products take, and nothing else of size is exchanged."""
    for name, times in (("hmc", 3), ("vae", 1)):
        alone, four = costs[name]
        assert alone["collectives"] == []
        assert [(each["kind"], each["times"]) for each in four["collectives"]] == [("all-reduce", times)]
        assert 0 <= four["collectives"][0]["bytes"] - num_bytes(name) <= 16
    gathered = sum(each["bytes"] for each in costs["bayesian_gan"][1]["collectives"])
    assert 0.5 * num_bytes("bayesian_gan") <= gathered <= num_bytes("bayesian_gan")


@pytest.mark.slow
def test_particles_and_batches_are_in_parts(costs):
    """Four chips do a quarter each of what is fixed, and as much as one of what grows."""
    for name, share in (("hmc", 0.25), ("bayesian_gan", 0.25), ("vae", 1.0)):
        alone, four = costs[name]
        assert four["flops"] == pytest.approx(share * alone["flops"], rel=0.02)


@pytest.mark.slow
def test_convolutions_lower_for_a_tpu():
    """The primitive of `models/convolution.py` with its gradients, of one network and of two: twice the products."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("needs libtpu: pip install -e '.[tpu]'")
    network = models.dcgan.Discriminator((8, 8, 3), features=(8, 16), norm="none")
    position = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"])

    def loss(params, x):
        return network.apply({"params": params}, x).sum()

    where = SingleDeviceSharding(tpu.devices("v5e", 1)[0])
    images = jax.ShapeDtypeStruct((4, 8, 8, 3), jnp.float32)
    flops = []
    for num in (1, 2):
        stacked = jax.tree.map(lambda leaf, num=num: jax.ShapeDtypeStruct((num, *leaf.shape), leaf.dtype), position)
        gradient = jax.jit(jax.vmap(jax.grad(loss), in_axes=(0, None)), in_shardings=where)
        flops.append(hlo.read(gradient.lower(stacked, images).compile().as_text()).flops)
    assert flops[1] == pytest.approx(2 * flops[0], rel=0.1) and flops[0] > 0
