"""Minibatches: a pure function of (key, step), each epoch a permutation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayesjax import data, kernels, posteriors, training
from bayesjax.data.batches import _divmod_product

visit = jax.jit(lambda batches, steps: jax.vmap(batches)(steps))


def epochs(num, batch_size, num_epochs, seed=0):
    """Indices in the order visited, `[num_epochs, num]`."""
    batches = data.Minibatches(jax.random.key(seed), jnp.arange(num), batch_size)
    visited = np.asarray(visit(batches, jnp.arange(-(-num * num_epochs // batch_size)))).reshape(-1)
    return visited[: num * num_epochs].reshape(num_epochs, num)


@pytest.mark.parametrize(("num", "batch_size"), [(12, 4), (13, 5), (7, 20), (1, 3)])
def test_each_epoch_visits_every_example_once(num, batch_size):
    """Also where a batch straddles two epochs, or holds several of them; epochs differ in their order."""
    visited = epochs(num, batch_size, 6)
    np.testing.assert_array_equal(np.sort(visited, axis=1), np.tile(np.arange(num), (6, 1)))
    if num > 5:
        assert len({tuple(row) for row in visited}) == 6


def test_a_batch_is_a_function_of_the_step():
    """Steps in any order, jitted or not, one by one or at once, from two equal objects: the same batch."""
    arrays = {"x": np.arange(26.0, dtype=np.float32).reshape(13, 2), "y": np.arange(13)}
    first, second = (data.Minibatches(jax.random.key(5), arrays, 4) for _ in range(2))
    jitted, together, eager = jax.jit(first), visit(second, jnp.arange(4)), second(3)
    for step in (3, 0, 3):
        here = jitted(step)
        assert here["x"].shape == (4, 2) and here["y"].shape == (4,)
        np.testing.assert_array_equal(here["x"][:, 0], 2 * here["y"])
        np.testing.assert_array_equal(together["y"][step], here["y"])
    np.testing.assert_array_equal(eager["y"], here["y"])


def test_steps_and_keys_differ():
    """Other steps and other keys give other batches: all of 8 x 4 orders of 13 among 10^4 differ."""
    seen = {tuple(row) for seed in range(4) for row in epochs(13, 13, 8, seed)}
    assert len(seen) == 32


def test_batches_with_replacement_are_independent():
    """A function of the step too; every example as often as any, and two of a batch equal as often as by chance.

    False alarms: a chi-squared test at 1e-4, and 4 standard errors. Power: epochs have no equal examples at all.
    """
    num, batches = 20, data.Minibatches(jax.random.key(1), jnp.arange(20), 5, with_replacement=True)
    drawn = np.asarray(visit(batches, jnp.arange(4000)))
    np.testing.assert_array_equal(jax.jit(batches)(17), drawn[17])
    assert stats.chisquare(np.bincount(drawn.ravel(), minlength=num)).pvalue > 1e-4
    equal = drawn[:, 0] == drawn[:, 1]
    assert abs(equal.mean() - 1 / num) < 4 * np.sqrt(1 / num / len(equal))
    whole = np.asarray(visit(data.Minibatches(jax.random.key(1), jnp.arange(20), 5), jnp.arange(4000)))
    assert not (whole[:, 0] == whole[:, 1]).any()


LATE = [(8, 4), (60000, 128), (1437, 128), (7, 20), (3, 2**20 + 1), (1, 5), (2**31 - 1, 2**31 - 1), (2**30 + 1, 999)]


@pytest.mark.parametrize("enable_x64", [False, True])
def test_epoch_and_place_are_exact_at_every_step(enable_x64):
    """Against Python's integers, up to the last step that fits, where step x batch_size exceeds 2^32 and 2^53."""
    steps = np.array([0, 1, 77, 2**16, 2**25 - 1, 2**25, 2**30 + 3, 2**31 - 2, 2**31 - 1, 2**32 - 1], np.uint32)
    with jax.enable_x64(enable_x64):
        divided = jax.jit(lambda steps: [_divmod_product(steps, size, num) for num, size in LATE])
        for (num, size), (epoch, place) in zip(LATE, divided(jnp.asarray(steps)), strict=True):
            assert epoch.dtype == place.dtype == jnp.uint32
            exact = [divmod(int(step) * size, num) for step in steps]
            np.testing.assert_array_equal(epoch, [quotient % 2**32 for quotient, _ in exact])
            np.testing.assert_array_equal(place, [remainder for _, remainder in exact])


@pytest.mark.parametrize(("num", "batch_size", "first"), [(8, 4, 2**26), (8, 4, 2**30), (12, 1024, 2**23 + 1)])
def test_late_epochs_are_whole_and_new(num, batch_size, first):
    """Where float32 steps would coincide, and around step x batch_size = 2^32 and beyond, every epoch is still whole.

    A product modulo 2^32 would return to the batches of the start, and to epochs that are not whole where 2^32 is no
    multiple of the data (12).
    """
    minibatches = data.Minibatches(jax.random.key(0), jnp.arange(num), batch_size)
    late, early = (np.asarray(visit(minibatches, start + jnp.arange(4))).ravel() for start in (first, 0))
    offset = -first * batch_size % num
    whole = late[offset : offset + (len(late) - offset) // num * num].reshape(-1, num)[:1000]
    np.testing.assert_array_equal(np.sort(whole, axis=1), np.tile(np.arange(num), (len(whole), 1)))
    assert not np.array_equal(late, early)


def test_early_batches_stay_as_they_were():
    """Published runs rest on these orders: the batches of before the division became exact."""
    found = np.asarray(visit(data.Minibatches(jax.random.key(3), jnp.arange(13), 5), jnp.arange(6))).ravel()
    assert found.tolist() == [
        10, 6, 11, 12, 0, 5, 8, 2, 7, 9, 3, 1, 4, 0, 5, 7, 4, 2, 6, 3, 11, 1, 9, 12, 10, 8, 10, 9, 5, 8,
    ]  # fmt: skip


def test_passes_through_jit_as_an_argument():
    """A pytree of key and arrays: as jit's argument its data are parameters of the program, not constants in it.

    Closed over, they are constants, which the same search finds.
    """
    data_values = np.full((50, 3), 0.123456, np.float32)
    batches = data.Minibatches(jax.random.key(0), data_values, 4)
    as_argument = jax.make_jaxpr(lambda batches, step: batches(step))(batches, 0)
    closed_over = jax.make_jaxpr(batches.__call__)(0)
    large = lambda jaxpr: [c for c in jaxpr.consts if np.shape(c) == (50, 3)]  # noqa: E731
    assert large(as_argument) == [] and len(large(closed_over)) == 1
    assert (50, 3) in [v.aval.shape for v in as_argument.jaxpr.invars]
    leaves, structure = jax.tree.flatten(batches)
    assert len(leaves) == 2
    other = jax.tree.unflatten(structure, [leaves[0], leaves[1] + 1])
    np.testing.assert_allclose(visit(other, jnp.arange(4)), 1.123456, rtol=1e-6)


def test_more_examples_than_int32_numbers():
    with pytest.raises(ValueError, match=r"fewer than 2\^31 examples.* got 2147483648"):
        data.Minibatches(jax.random.key(0), np.broadcast_to(np.int8(0), 2**31), 1)


@pytest.mark.parametrize(("arrays", "batch_size"), [(np.zeros((0, 2)), 1), (np.zeros((3, 2)), 0)])
def test_sizes_out_of_range(arrays, batch_size):
    """No data, or no batch, is refused with both numbers."""
    with pytest.raises(ValueError, match=f"batch_size .* got {batch_size} and {len(arrays)}"):
        data.Minibatches(jax.random.key(0), arrays, batch_size)


def test_leaves_of_different_length():
    """Leaves that disagree in length are refused by name."""
    with pytest.raises(ValueError, match=r"arrays .* got 3, 4"):
        data.Minibatches(jax.random.key(0), {"x": np.zeros(3), "y": np.zeros(4)}, 1)


def test_permuted_is_a_permutation():
    """The map is a permutation for sizes from 1 to 70, including those around powers of two, and for 1000."""
    sizes = (1, 2, 3, 4, 5, 7, 16, 17, 50, 63, 64, 65, 70, 1000)

    def orders(rng_key):
        return [jax.vmap(data.permute_index, in_axes=(None, 0, None))(rng_key, jnp.arange(num), num) for num in sizes]

    for num, order in zip(sizes, jax.jit(orders)(jax.random.key(3)), strict=True):
        assert order.dtype == jnp.int32
        np.testing.assert_array_equal(np.sort(order), np.arange(num))
        assert num < 16 or order.tolist() != list(range(num))


def chi_square(values, num):
    return stats.chisquare(np.bincount(np.asarray(values), minlength=num)).pvalue


def test_permuted_is_near_uniform():
    """Over 2000 keys each place holds each of 7 elements equally often, and so does each pair of places 0 and 1.

    Chi-square of the 7 places (6 degrees of freedom) and of the 42 ordered pairs; p < 1e-4 in one of 8 tests is a false
    alarm in 8e-4 of all seeds, and the seed is fixed. The identity, and a rotation by a random amount (uniform in every
    place, but not in pairs), are the wrong variants: both have p < 1e-10.
    """
    num, keys = 7, jax.random.split(jax.random.key(11), 2000)
    every = jax.jit(
        jax.vmap(lambda key: jax.vmap(data.permute_index, in_axes=(None, 0, None))(key, jnp.arange(num), num))
    )
    order = np.asarray(every(keys))

    def pair(order):
        codes = order[:, 0] * num + order[:, 1]
        return stats.chisquare(np.bincount(codes, minlength=num**2)[~np.eye(num, dtype=bool).ravel()]).pvalue

    assert min([chi_square(order[:, place], num) for place in range(num)] + [pair(order)]) > 1e-4
    identity = np.tile(np.arange(num), (2000, 1))
    rotation = (identity + np.random.default_rng(0).integers(num, size=(2000, 1))) % num
    assert chi_square(identity[:, 0], num) < 1e-10
    assert chi_square(rotation[:, 0], num) > 1e-4 and pair(rotation) < 1e-10


def test_binarised_batches_are_draws_of_the_grey_values():
    """Over 4000 steps each pixel is 1 as often as it is bright; 0 and 1 are exact. False alarms 6e-5 x 3 pixels.

    A set binarised once, at a half or by one draw, is refused by the same test.
    """
    grey = np.array([0.0, 0.1, 0.5, 0.93, 1.0], np.float32)
    batches = data.Minibatches(jax.random.key(0), np.tile(grey, (6, 1)), 3)
    binary = np.asarray(visit(data.Binarised(jax.random.key(1), batches), jnp.arange(4000)))
    assert binary.shape == (4000, 3, 5) and set(np.unique(binary)) == {0.0, 1.0}

    def agrees(images):
        return (np.abs(images.mean(axis=(0, 1)) - grey) <= 4 * np.sqrt(grey * (1 - grey) / 12000)).all()

    assert agrees(binary)
    assert not agrees(np.broadcast_to(grey > 0.5, binary.shape))
    assert not agrees(np.broadcast_to(binary[0], binary.shape))


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (np.full((6, 5), 255, np.uint8), "uint8"),
        (np.full((6, 5), 100, np.int8), "int8"),
        (np.full((6, 5), 1.5, np.float16), r"\[0, 1\]; got an array \(6, 5\) from 1.5 to 1.5"),
        (np.full((6, 5), np.nan, np.float32), r"\[0, 1\]; got an array \(6, 5\) from nan to nan"),
    ],
)
def test_binarised_batches_are_of_probabilities(images, got):
    """Grey values of 0 to 255, values above 1 and NaN are refused once, before the loop in which they are traced."""
    batches = data.Minibatches(jax.random.key(0), images, 3)
    with pytest.raises(ValueError, match=f"batches must be .*{got}"):
        data.Binarised(jax.random.key(1), batches)
    with pytest.raises(ValueError, match=f"batches must be .*{got.split(' an array')[0]}"):
        data.Binarised(jax.random.key(1), lambda step: jnp.asarray(images)[step % 6])


def test_binarised_batches_are_a_function_of_key_and_step():
    """The same step, the same draws, jitted with the batches as an argument or not; another step or key, others."""
    batches = data.Minibatches(jax.random.key(0), np.full((4, 64), 0.5, np.float32), 4)
    first, again, other = (data.Binarised(jax.random.key(seed), batches) for seed in (1, 1, 2))
    here = np.asarray(first(7))
    np.testing.assert_array_equal(here, jax.jit(lambda batches, step: batches(step))(again, 7))
    for different in (first(8), other(7)):
        assert 0.3 < np.mean(here != np.asarray(different)) < 0.7


@pytest.mark.parametrize("with_replacement", [False, True])
@pytest.mark.parametrize("kind", ["sets", "shared", "chains"])
def test_of_each_is_each_set_s_own_minibatches(kind, with_replacement):
    """Element i is the batch of `Minibatches` with key i: for several sets, for one set, and for chains."""
    rng_key, sets = jax.random.key(5), {"x": np.arange(30.0).reshape(3, 10)}
    arrays = sets if kind == "sets" else {"x": sets["x"][0]}
    keys = jax.random.split(rng_key, 3)
    if kind == "chains":
        batches = data.independent_minibatches(rng_key, arrays, 4, 3, with_replacement=with_replacement)
    else:
        batches = data.stacked_minibatches(keys, arrays, 4, shared=kind == "shared", with_replacement=with_replacement)
    batch = jax.jit(lambda batches, step: batches(step))(batches, 7)["x"]
    for i, key in enumerate(keys):
        own = data.Minibatches(key, sets["x"][i if kind == "sets" else 0], 4, with_replacement=with_replacement)(7)
        np.testing.assert_array_equal(batch[i], own)
    assert len(np.unique(batch % 10, axis=0)) == 3  # three orders


@pytest.mark.slow
def test_chains_with_batches_of_their_own_are_independent():
    """SGLD on N(theta, 1) data whose gradient noise exceeds the injected noise: chains of shared minibatches correlate.

    64 pairs of chains of 300 draws, two steps apart. The correlation of a pair, averaged over the pairs, has a standard
    error below 0.02 if the chains are independent (autocorrelation time below 10 draws); 4 of them is the bar. Shared
    minibatches are the wrong variant.
    """
    x, num = np.asarray(np.random.default_rng(0).normal(size=20), np.float32), 128

    def log_likelihood(theta, rng_key, example):
        return -0.5 * (example - theta) ** 2

    density = posteriors.log_posterior(log_likelihood, posteriors.gaussian(1.0), len(x))
    kernel = kernels.sgld(density, step_size=0.02)
    rng_key = jax.random.key(1)

    def correlation(batches, batch_axis):
        copies = kernels.particles(kernel, num, batch_axis=batch_axis)
        state = copies.init(jnp.full(num, x.mean()), rng_key)
        _, trace = training.run(rng_key, copies, state, batches, num_steps=700, num_burnin=100, thinning=2)
        left = np.asarray(trace.draws - trace.draws.mean(axis=0))
        left /= left.std(axis=0)
        return (left[:, ::2] * left[:, 1::2]).mean()

    assert abs(correlation(data.independent_minibatches(rng_key, x, 2, num, with_replacement=True), 0)) < 0.08
    assert correlation(data.Minibatches(rng_key, x, 2, with_replacement=True), None) > 0.2


@pytest.mark.parametrize(
    ("arrays", "batch_size", "message"),
    [
        (np.zeros((2, 5)), 1, "a set for each of the 3 rng_keys; got 2"),
        (np.zeros((3, 5)), 0, "batch_size must be at least 1"),
    ],
)
def test_of_each_refuses_at_once(arrays, batch_size, message):
    with pytest.raises(ValueError, match=message):
        data.stacked_minibatches(jax.random.split(jax.random.key(0), 3), arrays, batch_size)


def test_number_of_chains_is_checked():
    with pytest.raises(ValueError, match="num_chains must be at least 1; got 0"):
        data.independent_minibatches(jax.random.key(0), np.zeros(5), 1, 0)
