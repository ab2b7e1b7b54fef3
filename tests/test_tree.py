"""Tests of pytree arithmetic and of noise in the shape of a tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import tree
from tests.parameters import some


def test_the_same_key_gives_the_same_noise_and_another_does_not():
    """Noise is a function of key and shape; all leaves of float32 and float64 have the shape and type asked for."""
    like = {"a": jnp.zeros((2, 3)), "b": [jnp.zeros(5), jnp.zeros(())]}
    first, again, other = (tree.normal_like(jax.random.key(seed), like) for seed in (1, 1, 2))
    assert jax.tree.all(
        jax.tree.map(lambda x, y, z: jnp.array_equal(x, y) and not jnp.any(x == z), first, again, other)
    )
    assert jax.tree.all(jax.tree.map(lambda x, z: x.shape == z.shape and x.dtype == z.dtype, first, like))


def assert_identity_covariance(noise, num_errors=4):
    """Every entry of the sample covariance of `noise` `[num, dim]` is within `num_errors` standard errors of I's."""
    num, dim = noise.shape
    covariance = noise.T @ noise / num
    standard_error = np.sqrt((1 + np.eye(dim)) / num)
    assert (np.abs(covariance - np.eye(dim)) < num_errors * standard_error).all(), covariance


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_noise_is_independent_across_elements_leaves_and_keys(impl):
    """Means and all covariances of 7 elements in 3 leaves (an odd number) over 20000 keys, within 4 standard errors.

    False alarms: 35 comparisons at 6.3e-5, 0.2 %. Power: two leaves that share their noise fail.
    """
    like = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(()), "c": jnp.zeros(2)}
    keys = jax.random.split(jax.random.key(3, impl=impl), 20000)
    noise = jax.jit(jax.vmap(lambda key: tree.normal_like(key, like)))(keys)
    flat = np.concatenate([np.asarray(leaf, np.float64).reshape(20000, -1) for leaf in jax.tree.leaves(noise)], axis=1)
    assert_identity_covariance(flat)
    assert (np.abs(flat.mean(axis=0)) < 4 / np.sqrt(20000)).all()
    assert_identity_covariance(np.stack([flat[:-1, 0], flat[1:, 0]], axis=1))  # keys next to each other
    with pytest.raises(AssertionError):
        assert_identity_covariance(np.concatenate([flat, flat[:, :1]], axis=1))


def test_long_noise_is_independent_along_its_length():
    """One draw of 2^17: the four halves of its words, the two blocks of a half, and neighbours, uncorrelated.

    False alarms: 16 comparisons at 6.3e-5 (4 standard errors), 0.1 %. Power: the same half used twice fails.
    """
    noise = np.asarray(tree.normal_like(jax.random.key(4), jnp.zeros(2**17)), np.float64)
    halves = noise.reshape(4, 2**15)
    assert_identity_covariance(halves.T)
    assert_identity_covariance(halves[0].reshape(2, -1).T)
    assert_identity_covariance(np.stack([noise[:-1], noise[1:]], axis=1))
    with pytest.raises(AssertionError):
        assert_identity_covariance(np.stack([halves[0], halves[0]], axis=1))


def test_double_precision_noise_has_its_resolution():
    """float64 leaves get float64 normals, not float32 ones in disguise; a mix keeps its types."""
    with jax.enable_x64(True):
        noise = tree.normal_like(jax.random.key(5), {"a": jnp.zeros(2000), "b": jnp.zeros(3, jnp.float32)})
        assert noise["a"].dtype == jnp.float64
        assert noise["b"].dtype == jnp.float32
        assert (noise["a"] != noise["a"].astype(jnp.float32)).sum() > 1990


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_noise_is_drawn_in_float32(dtype):
    """It is the noise of a float32 tree, cast; a draw in bfloat16 has a mean of -0.012 and is not."""
    halves, singles = (
        tree.normal_like(jax.random.key(2), [jnp.zeros(30, d), jnp.zeros(4)]) for d in (dtype, jnp.float32)
    )
    assert halves[0].dtype == dtype
    assert jnp.array_equal(halves[0], singles[0].astype(dtype))
    assert jnp.array_equal(halves[1], singles[1])


def test_laws_by_name():
    """The 16-bit law only where it is asked for: at most 188 values, not the 2000 different ones of the default."""
    like = {"a": jnp.zeros((2, 1000)), "b": jnp.zeros(3)}
    for law, count in (("normal", range(1990, 2001)), ("sixteen_bit", range(100, 189))):
        noise = tree.normal_like(jax.random.key(8), like, law=law)
        assert len(np.unique(noise["a"])) in count
        assert jax.tree.map(jnp.shape, noise) == jax.tree.map(jnp.shape, like)
    assert jax.tree.all(
        jax.tree.map(jnp.array_equal, tree.normal_like(jax.random.key(8), like),
                     tree.normal_like(jax.random.key(8), like, law="normal"))
    )  # fmt: skip
    with pytest.raises(ValueError, match="noise must be one of normal, sixteen_bit; got 'exact'"):
        tree.normal_like(jax.random.key(0), like, law="exact")


def test_noise_of_integers_is_refused():
    """Noise cast to integers would be 0 two times in three."""
    with pytest.raises(ValueError, match="tree must have floating-point leaves; got int32"):
        tree.normal_like(jax.random.key(0), {"a": jnp.zeros(2), "b": jnp.zeros(2, jnp.int32)})


@pytest.mark.parametrize("size", [0, 1, 2, 3, 17])
def test_any_size(size):
    """Odd sizes, one and none: the right shape, all finite; two elements of one leaf are not copies."""
    noise = tree.normal_like(jax.random.key(6), jnp.zeros(size))
    assert noise.shape == (size,)
    assert jnp.isfinite(noise).all()
    assert len(np.unique(noise)) > size // 2 or size == 0


def test_arithmetic():
    """num_elements, dot and norm are those of the concatenated vector."""
    a = {"x": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "y": jnp.array(5.0)}
    b = {"x": jnp.array([[2.0, 0.0], [1.0, -1.0]]), "y": jnp.array(3.0)}
    assert tree.num_elements(a) == 5
    assert tree.dot(a, b) == 2 + 3 - 4 + 15
    assert tree.norm(a) == pytest.approx(55**0.5)
    assert tree.norm({"x": jnp.ones((2, 3, 4)), "none": jnp.ones((0, 3)), "nor": jnp.ones((3, 0))}) == pytest.approx(
        24**0.5
    )
    assert tree.num_elements({}) == tree.norm({}) == 0
    assert tree.dot({}, {}) == 0


def test_a_sum_has_the_types_of_its_first_tree():
    """A position of half precision stays one whatever is added to it: otherwise no scan could carry it."""
    total = tree.add_scaled({"a": jnp.ones(2, jnp.bfloat16)}, {"a": jnp.ones(2)}, jnp.float32(0.5))
    assert total["a"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(total["a"].astype(float), 1.5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_arithmetic_of_half_precision(dtype):
    """Sums are of float32: neither type holds 3000 terms or a square of 300; the step 1 - 2^-10 is rounded once."""
    x = {"a": jnp.full(3000, 300, dtype), "b": jnp.ones(2)}
    assert tree.dot(x, x).dtype == jnp.float32
    assert tree.dot(x, x) == 3000 * 300**2 + 2
    assert tree.norm(x) == pytest.approx((3000 * 300**2 + 2) ** 0.5)
    moved = tree.add_scaled(jnp.ones(1, dtype), jnp.full(1, 3, dtype), 0.1)
    assert moved.dtype == dtype
    assert moved == jnp.asarray(1 + jnp.float32(0.1) * 3, dtype)
    assert tree.widen({"x": x, "n": jnp.arange(2)})["x"]["a"].dtype == jnp.float32
    assert tree.widen(jnp.arange(2)).dtype == jnp.int32


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_all_finite(bad):
    """One bad element anywhere is seen; integers, booleans and empty trees are finite."""
    good = {"x": jnp.ones((2, 2)), "n": jnp.arange(3), "b": jnp.array(True)}
    assert tree.all_finite(good)
    assert tree.all_finite({})
    assert not tree.all_finite({**good, "x": good["x"].at[1, 0].set(bad)})


def test_stack_and_unstack_are_inverse():
    """stack adds a leading axis in order, unstack takes it off."""
    trees = [{"a": jnp.full(2, float(i)), "b": (jnp.array(float(-i)),)} for i in range(3)]
    stacked = tree.stack(trees)
    assert stacked["a"].shape == (3, 2)
    assert stacked["b"][0].tolist() == [0, -1, -2]
    assert tree.leading_axis(stacked) == 3
    for restored, original in zip(tree.unstack(stacked), trees, strict=True):
        assert jax.tree.all(jax.tree.map(jnp.array_equal, restored, original))


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ({"a": jnp.zeros((2, 3)), "b": jnp.zeros(3)}, "2, 3"),
        ({"a": jnp.zeros(2), "b": jnp.zeros(())}, "(2, a scalar|a scalar, 2)"),
        ({}, "no arrays"),
    ],
)
def test_leading_axis_errors_say_what_was_found(bad, found):
    """A tree without one common leading axis is refused by name, with the lengths found."""
    with pytest.raises(ValueError, match=f"draws must have one leading axis.*{found}"):
        tree.leading_axis(bad, "draws")


def test_stacking_nothing_is_an_error():
    """An empty list has no structure to stack."""
    with pytest.raises(ValueError, match="trees is empty"):
        tree.stack([])


@pytest.mark.parametrize("dtype", some(["float16", "bfloat16", "float32", "float64"], "bfloat16", "float32"))
def test_a_fingerprint_tells_trees_apart(dtype):
    """Other bits of any element, another order of elements or leaves: another fingerprint; the same tree, the same.

    Elements that are swapped have many trailing zero bits, which a weighted sum would lose at some distances.
    """
    with jax.enable_x64(dtype == "float64"):
        base = {"a": jnp.arange(600, dtype=dtype).reshape(2, 300), "b": jnp.ones((), dtype)}
        order = np.r_[256, 1:256, 0, 257:600]
        others = [
            {**base, "a": base["a"].at[1, 7].multiply(2)},
            {**base, "a": base["a"].at[0, 0].set(-0.0)},
            {**base, "a": base["a"].reshape(-1)[order].reshape(2, 300)},
            {"a": base["a"].at[0, 3].set(1), "b": base["a"][0, 3]},
            {**base, "b": -base["b"]},
        ]
        prints = [int(tree.fingerprint(each)) for each in (base, *others)]
        assert len(set(prints)) == len(prints)
        assert int(jax.jit(tree.fingerprint)(base)) == prints[0]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), base, *others)
        assert jax.vmap(tree.fingerprint)(stacked).tolist() == prints
