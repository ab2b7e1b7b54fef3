"""What the benchmarks make of times: orders, ratios, exponents, and the operations that rates are computed from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import measure, samplers_problem, vae


def test_rows_alternate_in_both_directions():
    called = []
    rows = {name: functools.partial(called.append, name) for name in "abc"}
    times = measure.alternate(rows, 3)
    assert called == list("abccbaabc")
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_ratio_is_of_medians_and_its_range_of_repeats():
    times = {"a": [2.0, 30.0, 4.0], "b": [1.0, 3.0, 8.0]}
    assert measure.ratio(times, "a", "b", "<= 2") == {"of_medians": 4 / 3, "min": 0.5, "max": 10.0, "bar": "<= 2"}
    assert measure.summary(times["a"]) == {"median": 4.0, "min": 2.0, "max": 30.0}


def test_error_of_a_ratio():
    """For 400 pairs with a common factor, the error excludes the factor; separate rows would include it."""
    random = np.random.default_rng(0)
    common, a, b = np.exp([[0.5], [0.05], [0.05]] * random.normal(size=(3, 400)))
    found = measure.ratio({"a": list(common * a), "b": list(common * b)}, "a", "b", "-")
    again = [
        np.median(common * row[0]) / np.median(common * row[1])
        for row in np.exp(0.05 * random.normal(size=(500, 2, 400)))
    ]
    assert found["stderr"] == pytest.approx(np.std(again), rel=0.5)
    apart = 1.2533 * 0.5 * (2 / 400) ** 0.5  # if the rows had not been measured side by side
    assert found["stderr"] < apart / 2


def test_ratio_over_processes():
    """The mean of the processes' median ratios, and its error from how they differ: not from the repeats."""
    processes = [{"a": [2.0, 30.0, 4.0], "b": [2.0, 10.0, 5.0]}, {"a": [12.0], "b": [10.0]}]
    found = measure.ratio_over_processes(processes, "a", "b", "<= 2")
    expected = {"value": 1.1, "stderr": 0.1, "processes": 2, "min": 1.0, "max": 1.2, "bar": "<= 2"}
    assert found == pytest.approx(expected)


def test_ratio_over_processes_on_a_machine_of_two_speeds():
    """Speeds that last for a repeat do not show in the ratio; in that of the rows' medians they do."""
    speeds = np.array([1.0, 1.0, 1.0, 1.4, 1.4, 1.4])
    b_is_late = np.array([1.0, 1.0, 1.4, 1.4, 1.4, 1.4])  # the speed changes between the rows of the third repeat
    processes = [{"a": list(speeds), "b": list(0.9 * b_is_late)}] * 2
    assert measure.ratio_over_processes(processes, "a", "b", "-")["value"] == pytest.approx(1 / 0.9)
    assert measure.ratio(processes[0], "a", "b", "-")["of_medians"] == pytest.approx(1.2 / 1.4 / 0.9)


def test_states_that_are_not_finite_are_refused():
    measure.check_finite({"a": jnp.ones(3), "step": jnp.int32(1)})
    with pytest.raises(FloatingPointError):
        measure.check_finite({"a": jnp.ones(3), "b": jnp.array([1.0, jnp.inf])})


def test_slope_is_the_exponent():
    """Exact for a power law; of noisy times it is NumPy's, with its standard error; no error of two points."""
    sizes = [1, 2, 4, 8, 16]
    exact = measure.slope(sizes, [3 * size**0.7 for size in sizes])
    assert exact["value"] == pytest.approx(0.7) and exact["stderr"] < 1e-12 and (exact["from"], exact["to"]) == (1, 16)
    noisy = np.exp(np.log(sizes) + 0.1 * np.random.default_rng(0).normal(size=5))
    fit, covariance = np.polyfit(np.log(sizes), np.log(noisy), 1, cov=True)
    found = measure.slope(sizes, noisy)
    assert found["value"] == pytest.approx(fit[0]) and found["stderr"] == pytest.approx(covariance[0, 0] ** 0.5)
    assert measure.slope([1, 2], [1.0, 2.0])["stderr"] is None


def dot_flops(function, *arguments):
    """Operations of all matrix products in a program, as it is written."""
    total = 0
    for equation in jax.make_jaxpr(function)(*arguments).jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * int(np.prod([shape[axis] for axis in contracted]))
    return total


def test_operations_are_those_of_the_products():
    """The counts that GFLOP/s are computed from, beside the products in the programs themselves."""
    weights = vae.weight_matrices(vae.training_parts()[2])
    x = jnp.zeros((vae.BATCH_SIZE, vae.NUM_PIXELS))
    assert vae.num_operations() == dot_flops(lambda x, weights: vae.products(x, weights, jnp.concatenate), x, weights)

    params, inputs = samplers_problem.initial_weights(), samplers_problem.regression(32)["x"]
    gradient = jax.grad(lambda params: jnp.sum(samplers_problem.predict(params, inputs) ** 2))
    assert samplers_problem.matrix_flops(32) == dot_flops(gradient, params)


def rows_of_a_side(fails=False):
    def run():
        if fails:
            raise ArithmeticError("wrong")

    return {"quick": measure.Row(run, 2, 0.5)}


@pytest.mark.slow
def test_sides_time_rows_in_processes_of_their_own():
    """Every repeat is timed, compile time and memory are reported, and what fails there is told here."""
    with measure.Sides({"a": rows_of_a_side}, threads=1, pause=0) as running:
        times = running.alternate(2)
    assert list(times) == ["quick"] and len(times["quick"]) == 2 and all(value > 0 for value in times["quick"])
    assert running.compile_seconds == {"quick": 0.5} and running.peak_mib["a"] > 10
    failing = {"a": functools.partial(rows_of_a_side, fails=True)}
    with measure.Sides(failing, threads=1, pause=0) as running, pytest.raises(RuntimeError, match="ArithmeticError"):
        running.alternate(1)
