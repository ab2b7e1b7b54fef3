"""Tests of `alternate`, `repeat` and `particles` against plain Python loops: batches, order and keys."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import pytest

from bayesjax import objectives, posteriors, tree
from bayesjax.kernels import alternate, game_descent, particles, repeat, sghmc
from bayesjax.types import Given, Kernel, ParticleAxis, Players


class MoveState(NamedTuple):
    position: jax.Array


class Seen(NamedTuple):
    """What the player was given."""

    key: jax.Array
    batch: object


def mover(move):
    """A kernel that goes to `move(position, batch)` and reports what it saw."""

    def step(rng_key, state, batch):
        return MoveState(move(state.position, batch)), Seen(jax.random.key_data(rng_key), batch)

    return Kernel(lambda position, rng_key: MoveState(position), step)


def quadratic(params, rng_key, batch):
    """A log density that uses its key and its batch."""
    return -0.5 * jnp.sum((params["x"] - batch) ** 2) + jax.random.normal(rng_key, ()) * params["x"][0]


def facing(params, rng_key, given):
    """The same, drawn to the other player as well."""
    (other,) = given.others.values()
    return quadratic(params, rng_key, given.data) - 0.5 * jnp.sum((params["x"] - other["x"]) ** 2)


# Compiled for a few steps only: no time is spent on making it fast.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KERNEL = sghmc(quadratic, step_size=0.1)
KERNEL_STEP = quick_jit(KERNEL.step)
POSITION = {"x": jnp.array([1.0, -2.0])}
DATA = jnp.array([0.5, 0.25])


def test_each_player_sees_the_data_and_where_the_others_stand_now():
    """a moves first and sees the old b and c; b sees the moved a; c sees both moved. Never oneself."""
    kernel = alternate(
        a=mover(lambda x, given: x + given.data),
        b=mover(lambda x, given: x + 10 * given.others["a"]),
        c=mover(lambda x, given: x + given.others["a"] + given.others["b"]),
    )
    start = {"a": jnp.array(1.0), "b": jnp.array(2.0), "c": jnp.array(3.0)}
    state, info = kernel.step(jax.random.key(0), kernel.init(start, jax.random.key(1)), jnp.array(4.0))
    assert state.position == {"a": 5, "b": 52, "c": 60}
    seen = {name: player.batch for name, player in info.players.items()}
    assert all(isinstance(batch, Given) and batch.data == 4 for batch in seen.values())
    assert seen["a"].others == {"b": 2, "c": 3}
    assert seen["b"].others == {"a": 5, "c": 3}
    assert seen["c"].others == {"a": 5, "b": 52}


def test_the_order_is_the_order_of_the_arguments():
    """alternate(b, a) is another sweep than alternate(a, b), whatever the order of the position's keys.

    Power: a simultaneous update, each facing the others' old positions, would give a = b = 3 in both.
    """
    add = mover(lambda x, given: x + sum(given.others.values()))
    for names, expected in ((("a", "b"), {"a": 3, "b": 5}), (("b", "a"), {"b": 3, "a": 4})):
        kernel = alternate(**dict.fromkeys(names, add))
        start = {"a": jnp.array(1.0), "b": jnp.array(2.0)}
        state, _ = kernel.step(jax.random.key(0), kernel.init(start, jax.random.key(1)), None)
        assert state.position == expected
        assert list(state.players) == list(names)


def test_each_player_and_each_sweep_has_its_own_key():
    """The keys are those of one split, in order, all different."""
    kernel = alternate(**dict.fromkeys("abc", mover(lambda x, given: x)))
    state = kernel.init(dict.fromkeys("abc", jnp.zeros(())), jax.random.key(1))
    _, info = kernel.step(jax.random.key(0), state, None)
    keys = jnp.stack([info.players[name].key for name in "abc"])
    chex.assert_trees_all_equal(keys, jax.random.key_data(jax.random.split(jax.random.key(0), 3)))
    assert len({tuple(key.tolist()) for key in keys}) == 3


def test_alternate_of_samplers_is_the_loop_by_hand():
    """Two sghmc players facing each other, two sweeps, equal the written-out steps with the split keys."""
    kernel, player = (
        alternate(left=sghmc(facing, step_size=0.1), right=sghmc(facing, step_size=0.1)),
        sghmc(facing, step_size=0.1),
    )
    step, player_step = quick_jit(kernel.step), quick_jit(player.step)
    start = {"left": POSITION, "right": {"x": jnp.array([0.0, 3.0])}}
    state = kernel.init(start, jax.random.key(0))
    left, right = (
        player.init(start[name], key)
        for name, key in zip(("left", "right"), jax.random.split(jax.random.key(0)), strict=True)
    )
    for sweep in range(2):
        state, _ = step(jax.random.key(sweep), state, DATA)
        left_key, right_key = jax.random.split(jax.random.key(sweep))
        left, _ = player_step(left_key, left, Given(DATA, {"right": right.position}))
        right, _ = player_step(right_key, right, Given(DATA, {"left": left.position}))
    chex.assert_trees_all_close(state.players, {"left": left, "right": right}, rtol=1e-5)


@pytest.mark.parametrize("num_steps", [2, 4])
def test_repeat_is_so_many_steps(num_steps):
    """repeat(k) is k steps with the split keys on one batch, the info that of the last; k - 1 steps are elsewhere."""
    state = expected = KERNEL.init(POSITION, jax.random.key(0))
    state, info = quick_jit(repeat(KERNEL, num_steps).step)(jax.random.key(1), state, DATA)
    for key in jax.random.split(jax.random.key(1), num_steps):
        before = expected
        expected, expected_info = KERNEL_STEP(key, expected, DATA)
    chex.assert_trees_all_close((state, info), (expected, expected_info), rtol=1e-5)
    assert state.step == num_steps
    assert not jnp.allclose(state.position["x"], before.position["x"], rtol=1e-3)


def test_repeated_steps_can_each_see_a_part():
    """repeat(k, part) is k steps with the split keys, each on its own slice; one slice for all is elsewhere."""
    parts = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), DATA)
    state = expected = same = KERNEL.init(POSITION, jax.random.key(0))
    kernel = repeat(KERNEL, 2, part=lambda batch, i: jax.tree.map(lambda leaf: leaf[i], batch))
    moved, _ = quick_jit(kernel.step)(jax.random.key(1), state, parts)
    for i, key in enumerate(jax.random.split(jax.random.key(1), 2)):
        expected, _ = KERNEL_STEP(key, expected, jax.tree.map(lambda leaf, i=i: leaf[i], parts))
        same, _ = KERNEL_STEP(key, same, DATA)
    chex.assert_trees_all_close(moved, expected, rtol=1e-5)
    assert not jnp.allclose(moved.position["x"], same.position["x"], rtol=1e-3)


def test_a_part_that_is_the_same_for_every_step_is_refused():
    """A function that reads an iterator is called once, while the loop is traced, and would freeze its first batch."""
    batches = iter([DATA, DATA])
    kernel = repeat(KERNEL, 2, part=lambda batch, i: next(batches))
    with pytest.raises(ValueError, match="part returned the same batch at every step"):
        kernel.step(jax.random.key(1), KERNEL.init(POSITION, jax.random.key(0)), DATA)


def test_structure_describes_particles_and_players():
    """It is kept by `repeat` and by `_replace`, and a kernel of one position has none."""
    crowd = particles(KERNEL, 3, batch_axis=0)
    game = alternate(one=KERNEL, crowd=repeat(crowd, 2))
    assert KERNEL.structure is None and repeat(KERNEL, 2).structure is None
    assert crowd.structure == ParticleAxis(3, batch_axis=0)
    assert game.structure == Players({"one": None, "crowd": crowd.structure})
    assert repeat(game, 2).structure == game.structure
    init, step = game._replace(step=KERNEL.step)
    assert (init, step) == (game.init, KERNEL.step)
    assert game._replace(step=step).structure == game.structure


def test_repeat_once_is_the_kernel():
    """One inner step is the kernel itself, key and all."""
    assert repeat(KERNEL, 1) is KERNEL


def particle_loop(num, key, states, batches):
    """`num` kernels stepped one after another in Python, on the split keys."""
    keys = jax.random.split(key, num)
    return tree.stack([KERNEL_STEP(keys[i], states[i], batches[i])[0] for i in range(num)])


@pytest.mark.parametrize(("batch_axis", "chunk_size"), [(None, None), (0, None), (None, 1), (0, 2)])
def test_particles_are_a_loop_over_kernels(batch_axis, chunk_size):
    """particles equals a Python loop with the split keys: on one batch, and with batch_axis=0 each on its own; all at
    once, or in turns, the last of which may be short."""
    num = 3
    kernel = particles(KERNEL, num, batch_axis=batch_axis, chunk_size=chunk_size)
    positions = tree.stack([jax.tree.map(lambda x, i=i: x + i, POSITION) for i in range(num)])
    state = kernel.init(positions, jax.random.key(0))
    states = [
        KERNEL.init(one, key)
        for one, key in zip(tree.unstack(positions), jax.random.split(jax.random.key(0), num), strict=True)
    ]
    chex.assert_trees_all_close(state, tree.stack(states), rtol=1e-6)
    batches = jnp.stack([DATA, 2 * DATA, -DATA])
    moved, _ = quick_jit(kernel.step)(jax.random.key(1), state, DATA if batch_axis is None else batches)
    shared, own = (particle_loop(num, jax.random.key(1), states, b) for b in ([DATA] * num, batches))
    right, wrong = (shared, own) if batch_axis is None else (own, shared)
    chex.assert_trees_all_close(moved, right, rtol=1e-5)
    assert not jnp.allclose(moved.position["x"], wrong.position["x"], rtol=1e-3)


def test_what_is_no_kernel_is_named():
    with pytest.raises(ValueError, match="d must be a kernel, with init and step; got function"):
        alternate(d=lambda params: params)
    with pytest.raises(ValueError, match="kernel must be a kernel, with init and step; got function"):
        particles(lambda params: params, 2)


def test_a_shared_batch_is_no_batch_for_each_particle():
    kernel = particles(KERNEL, 2, batch_axis=0)
    state = kernel.init(tree.stack([POSITION] * 2), jax.random.key(0))
    for batch in (jnp.ones((5, 2)), jnp.ones(())):
        with pytest.raises(
            ValueError, match=r"^axis 0 of the batch must run over the 2 particles; got shape .*minibatches"
        ):
            kernel.step(jax.random.key(1), state, batch)


@pytest.mark.parametrize("chunk_size", [1, 2])
def test_particles_in_turns_lose_none(chunk_size):
    """A batch of more than there are particles, and a state of more, are refused, as they are all at once."""
    kernel = particles(KERNEL, 2, batch_axis=0, chunk_size=chunk_size)
    state = kernel.init(tree.stack([POSITION] * 2), jax.random.key(0))
    with pytest.raises(ValueError, match=r"axis 0 of the batch must run over the 2 particles; got shape \(3, "):
        kernel.step(jax.random.key(1), state, jnp.stack([DATA] * 3))
    four = particles(KERNEL, 4).init(tree.stack([POSITION] * 4), jax.random.key(0))
    with pytest.raises(ValueError, match=r"hold 2 particles each; got leading axes of \[4\]"):
        kernel.step(jax.random.key(1), four, jnp.stack([DATA] * 2))


def test_particles_with_equal_positions_part():
    """Copies of one position get noise of their own, in the momentum at once and in the position at the first step."""
    kernel = particles(KERNEL, 3)
    state = kernel.init(tree.stack([POSITION] * 3), jax.random.key(0))
    assert len(set(state.momentum["x"][:, 0].tolist())) == 3
    state, _ = quick_jit(kernel.step)(jax.random.key(1), state, DATA)
    assert len(set(state.position["x"][:, 0].tolist())) == 3


def test_a_player_of_particles_faces_the_others_with_a_leading_axis():
    """Inside alternate, each particle sees the whole of the other player, and the other sees all particles stacked."""
    crowd = particles(mover(lambda x, given: x + given.others["one"]), 3)
    kernel = alternate(crowd=crowd, one=mover(lambda x, given: x + given.others["crowd"].sum()))
    state = kernel.init({"crowd": jnp.arange(3.0), "one": jnp.array(10.0)}, jax.random.key(0))
    state, info = kernel.step(jax.random.key(1), state, None)
    assert state.position["crowd"].tolist() == [10, 11, 12]
    assert state.position["one"] == 43
    assert info.players["one"].batch.others["crowd"].shape == (3,)


def test_games_in_parallel_each_on_its_own_batch():
    """particles(alternate(...), 3, batch_axis=0): three whole games, each with its own data, key and players.

    The game has particles and repeated steps inside, so all compositions nest.
    """
    game = alternate(
        left=repeat(sghmc(facing, step_size=0.1), 2),
        right=particles(sghmc(lambda params, key, given: quadratic(params, key, given.data), step_size=0.1), 2),
    )
    # left faces the stacked right: facing() sums over its particles by broadcasting.
    start = {"left": POSITION, "right": tree.stack([POSITION, POSITION])}
    kernel = particles(game, 3, batch_axis=0)
    state = kernel.init(tree.stack([start] * 3), jax.random.key(0))
    batches = jnp.stack([DATA, 2 * DATA, -DATA])
    moved, _ = quick_jit(kernel.step)(jax.random.key(1), state, batches)
    game_step = quick_jit(game.step)
    for i, key in enumerate(jax.random.split(jax.random.key(1), 3)):
        alone, _ = game_step(key, jax.tree.map(lambda leaf, i=i: leaf[i], state), batches[i])
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, i=i: leaf[i], moved), alone, rtol=1e-5)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[0], moved), alone, rtol=1e-2)


GIVEN = {  # a density that takes what a player receives for the batch, and the error
    "array": (lambda params, rng_key, batch: jnp.sum(params["x"] - batch), TypeError, "'Given'"),
    "tuple": (lambda params, rng_key, batch: jnp.sum(params["x"] - batch[0] @ batch[1]), TypeError, "@"),
    "dict": (lambda params, rng_key, batch: jnp.sum(params["x"] - batch["x"]), TypeError, "tuple indices"),
    **{
        name: (density, ValueError, r"^batch must be the data alone; got Given\(data, others\) of a player of a game: ")
        for name, density in {
            "batch_mean": objectives.batch_mean(lambda params, rng_key, x: jnp.sum(params["x"] - x)),
            "log_posterior": posteriors.log_posterior(lambda params, rng_key, x: x, lambda params: 0.0, 2),
        }.items()
    },
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_density_of_the_batch_in_a_game(name):
    """The traceback names the player and says where the batch is, also if the leading axes happen to agree."""
    density, error, words = GIVEN[name]
    descent = game_descent({"a": facing, "b": density}, step_size=0.1)
    for kernel in (alternate(a=sghmc(facing, step_size=0.1), b=sghmc(density, step_size=0.1)), descent):
        start = kernel.init({"a": POSITION, "b": POSITION}, jax.random.key(0))
        with pytest.raises(error, match=words) as raised:
            kernel.step(jax.random.key(1), start, DATA)
        note = "player 'b': its loss or log density receives Given(data, others); the batch is given.data"
        assert note in raised.value.__notes__
