"""The training of any GAN as a game: updates of its players by Adam or by a sampler of weights, and evaluations.

    GameConfig, PairConfig              flags of every game, and of games between one generator and one discriminator
    initialise, minibatches             weights of a generator and a discriminator; data by step
    adam, sampler, prior                updates of a player
    pair_stages                         stages of a game: Adam, or Adam on negative log posteriors and then a sampler
    run_stages, play_pair               run stages one after another, with evaluations during training
    timings                             milliseconds per step

`posteriors.from_loss` turns a loss, a mean over N examples, into the log density log prior - N loss, which a sampler
needs. Adam yields one generator, the moving average of its iterates; a sampler yields posterior draws of generators.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, kernels, posteriors, training
from bayesjax.types import Array, Density, Given, Kernel, Params, Prior, PRNGKey, PyTree
from experiments.harness import Count, NonNegative, Positive, Range, Run, RunConfig, require

Share = Annotated[float, Range(above=0, most=1)]
Decay = Annotated[float, Range(least=0, below=1)]


@dataclass(frozen=True)
class GameConfig(RunConfig):
    """Flags of every game between generators and discriminators."""

    kernel: Literal["adam", "sghmc", "sgld"] = "adam"
    """Update of both players: adam trains a GAN; sghmc and sgld sample both players' weights, a Bayesian GAN."""
    batch_size: Count = 64
    """Number of real examples, and of generated examples, in a step."""
    num_steps: Count = 2000
    """Number of steps of the generator, warm-up included."""
    num_warmup: Count = 1000
    """Number of steps of Adam before a sampler starts; it has no effect with --kernel adam."""
    generator_learning_rate: Positive = 2e-4
    """Learning rate of Adam for the generator."""
    discriminator_learning_rate: Positive = 2e-4
    """Learning rate of Adam for the discriminator."""
    decay_from: Share = 1.0
    """Fraction of Adam's steps after which its learning rates decrease linearly to 0; 1 keeps them constant."""
    momentum: Decay = 0.5
    """Decay rate of Adam's first moment."""
    second_momentum: Decay = 0.999
    """Decay rate of Adam's second moment."""
    learning_rate: Positive = 1e-4
    """Step size of a sampler times the number of training examples."""
    friction: Annotated[float, Range(above=0, below=1)] = 0.1
    """Friction of SGHMC; 1 minus friction is the fraction of the momentum that a step keeps."""
    temperature: NonNegative = 1.0
    """Temperature T of the sampled posterior, whose density is raised to the power 1 / T; 0 removes the noise."""
    prior: Literal["gaussian", "fan_in"] = "fan_in"
    """Normal prior of the weights. gaussian: all weights have the standard deviation --prior-scale. fan_in: it is
    divided by the square root of the number of a layer's inputs for weights, and unchanged for biases."""
    prior_scale: Positive = 3.0
    """Standard deviation of the prior, before fan_in divides it."""


@dataclass(frozen=True)
class PairConfig(GameConfig):
    """Flags of a game between one generator and one discriminator."""

    discriminator_steps: Count = 1
    """Steps of the discriminator for each step of the generator; each has its own real examples."""
    average: Decay = 0.999
    """Decay rate of the moving average of the generator under Adam, from which images come; 0 uses the last weights."""
    num_evaluations: Annotated[int, Range(least=2)] = 20
    """Number of evenly spaced evaluations per stage, at which a sampler keeps a draw; remaining steps are dropped."""

    def __post_init__(self) -> None:
        """Checks that every stage has a step for each evaluation."""
        super().__post_init__()
        warmup = 0 if self.kernel == "adam" else self.num_warmup
        require(
            self.num_steps - warmup >= self.num_evaluations,
            f"--num-steps must leave a step for each of {self.num_evaluations} evaluations after {warmup} steps of "
            f"warm-up; got {self.num_steps}",
        )


def describe_steps(config: dict) -> str:
    """Describes the steps of each stage in words, for the note of a table; `config` is that of a results file."""

    def run(num_steps: int) -> int:
        return num_steps - num_steps % max(num_steps // config["num_evaluations"], 1)

    if config["kernel"] == "adam":
        return f"{run(config['num_steps'])} steps of Adam"
    warmup, rest = config["num_warmup"], config["num_steps"] - config["num_warmup"]
    return f"{run(warmup)} steps of Adam and {run(rest)} steps of {config['kernel'].upper()}"


# ---- weights and data


def initialise(
    generator: Any, discriminator: Any, noise_size: int, shape: tuple[int, ...]
) -> Callable[[PRNGKey], dict[str, Params]]:
    """Returns the function `rng_key -> {player: params}`, for Flax modules on `[n, noise_size]` and `[n, *shape]`."""

    def init(rng_key: PRNGKey) -> dict[str, Params]:
        discriminator_key, generator_key = jax.random.split(rng_key)
        return {
            "discriminator": discriminator.init(discriminator_key, jnp.zeros((1, *shape)))["params"],
            "generator": generator.init(generator_key, jnp.zeros((1, noise_size)))["params"],
        }

    return init


def minibatches(
    config: PairConfig, rng_key: PRNGKey, arrays: PyTree, num_games: int | None = None
) -> Callable[[Array], PyTree]:
    """Returns minibatches of `arrays` `[num, ...]` by step, with leaves `[discriminator_steps, batch_size, ...]`.

    With `num_games`, the leaves have a leading axis of games, and each game has its own order of the data.

    Raises:
      ValueError: if a step needs more data than there are.
    """
    num, shape = config.discriminator_steps * config.batch_size, (config.discriminator_steps, config.batch_size)
    available = jax.tree.leaves(arrays)[0].shape[0]
    flags = "--batch-size times --discriminator-steps"
    require(num <= available, f"{flags} must be at most {available}, the number of data; got {num}")
    joined: Callable = data.Minibatches(rng_key, arrays, num)
    if num_games is not None:
        joined = data.stacked_minibatches(jax.random.split(rng_key, num_games), arrays, num, shared=True)
        shape = num_games, *shape
    return jax.tree_util.Partial(functools.partial(_split_steps, shape), joined)


def _split_steps(shape: tuple[int, ...], joined: Callable[[Array], PyTree], step: Array) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[len(shape) - 1 :]), joined(step))


# ---- updates of a player


def adam(
    config: GameConfig, player: str, loss: Density, num_steps: int,
    constraint: optax.GradientTransformation | None = None,
) -> Kernel:  # fmt: skip
    """The kernel of Adam on the loss of "generator" or "discriminator"; `constraint` is applied after each update."""
    rate, start = getattr(config, f"{player}_learning_rate"), round(config.decay_from * num_steps)
    schedule = optax.linear_schedule(rate, 0.0, num_steps - start, start) if start < num_steps else rate
    optimizer = optax.adam(schedule, b1=config.momentum, b2=config.second_momentum)
    return kernels.optimize(loss, optimizer if constraint is None else optax.chain(optimizer, constraint))


def sampler(config: GameConfig, density: Density, num_data: int, temperature: float | None = None) -> Kernel:
    """The kernel of SGHMC or SGLD on a log density; `temperature`, if given, replaces --temperature."""
    step_size, temperature = config.learning_rate / num_data, config.temperature if temperature is None else temperature
    if config.kernel == "sgld":
        return kernels.sgld(density, step_size=step_size, temperature=temperature)
    return kernels.sghmc(density, step_size=step_size, friction=config.friction, temperature=temperature)


def prior(config: GameConfig) -> Prior:
    """The log prior density of a network's weights."""
    return (posteriors.gaussian if config.prior == "gaussian" else posteriors.fan_in_gaussian)(config.prior_scale)


def posterior_moves(config: GameConfig, losses: Mapping[str, Density], num_data: int) -> tuple[dict, dict]:
    """By player, the negative log posterior per example for a warm-up, and the sampler, of losses per example."""
    densities = {player: posteriors.from_loss(loss, prior(config), num_data) for player, loss in losses.items()}
    negative = {player: posteriors.as_loss(density, num_data) for player, density in densities.items()}
    return negative, {player: sampler(config, density, num_data) for player, density in densities.items()}


# ---- stages


class Stage(NamedTuple):
    """A stage of training: the kernel of all players, and its number of steps.

    After `num_burnin` steps, one draw is kept in every `thinning` steps; steps after the last kept draw are dropped.
    Draws are posterior draws if `is_sampler` is true, and otherwise iterates of an optimiser.
    """

    name: str
    kernel: Kernel
    num_steps: int
    thinning: int = 1
    num_burnin: int = 0
    is_sampler: bool = False


def pair_stages(
    config: PairConfig, losses: Mapping[str, Density], num_data: int, *,
    constraint: optax.GradientTransformation | None = None, carries: Mapping[str, PyTree] | None = None,
) -> list[Stage]:  # fmt: skip
    """The stages of a game of two players: Adam, or Adam on their negative log posteriors and then a sampler.

    Args:
      config: the kernel, its settings and the numbers of steps.
      losses: losses of the generator and the discriminator, `{player: loss}`, means per example.
      num_data: number of training examples, the factor of the losses in a log posterior.
      constraint: applied to the discriminator's weights after Adam's update.
      carries: initial values of the arrays that a player's loss under Adam passes to its next step, by player, such as
        a pool of earlier fakes or the number of the step (`kernels.carrying`). Samplers do not use them: their density
        depends on current positions only.
    """

    def sweep(moves: Mapping[str, Kernel]) -> Kernel:
        discriminator = kernels.repeat(moves["discriminator"], config.discriminator_steps, part=_select_step)
        return kernels.alternate(discriminator=discriminator, generator=moves["generator"])

    def optimised(losses: Mapping[str, Density], num_steps: int) -> dict[str, Kernel]:
        num = num_steps * config.discriminator_steps
        moves = {
            "discriminator": adam(config, "discriminator", losses["discriminator"], num, constraint),
            "generator": adam(config, "generator", losses["generator"], num_steps),
        }
        return moves | {player: kernels.carrying(moves[player], carry) for player, carry in (carries or {}).items()}

    def stage(name: str, moves: Mapping[str, Kernel], num_steps: int) -> Stage:
        thinning = max(num_steps // config.num_evaluations, 1)
        return Stage(name, sweep(moves), num_steps, thinning, is_sampler=name in ("sghmc", "sgld"))

    if config.kernel == "adam":
        moves = optimised(losses, config.num_steps)
        moves["generator"] = kernels.averaging(moves["generator"], config.average)
        return [stage("adam", moves, config.num_steps)]
    negative, sampled = posterior_moves(config, losses, num_data)
    return [
        stage("warmup", optimised(negative, config.num_warmup), config.num_warmup),
        stage(config.kernel, sampled, config.num_steps - config.num_warmup),
    ]


def _select_step(given: Given, i: Array) -> Given:
    return given._replace(data=jax.tree.map(lambda leaf: leaf[i], given.data))


def run_stages(
    run: Run, name: str, stages: Sequence[Stage], position: PyTree, batches: Callable, *,
    rng_keys: Sequence[PRNGKey], keep: Callable[[Stage, Any], PyTree], num_games: int | None = None,
) -> list[tuple[Any, training.Trace]]:  # fmt: skip
    """Runs stages one after another, each from the positions at which the one before it ends.

    Args:
      run, name: the run that records the stages, and the game's name in progress bars and checkpoints.
      stages, rng_keys: the stages in order, and a random key for each.
      position, batches: the initial position of all players, and the function `step -> minibatches`.
      keep: `(stage, state) -> pytree`, the values that are kept of a draw.
      num_games: number of independent games, the leading axis of positions, data and kept values.

    Returns:
      The final state and the trace of each stage.
    """
    results = []
    for stage, key in zip(stages, rng_keys, strict=True):
        kernel = stage.kernel if num_games is None else kernels.particles(stage.kernel, num_games, batch_axis=0)
        kernel, options = run.stage("-".join(filter(None, (name, stage.name))), kernel)
        state = jax.jit(kernel.init)(position, jax.random.fold_in(key, stage.num_steps))
        num_dropped = (stage.num_steps - stage.num_burnin) % stage.thinning
        state, trace = training.run(
            key, kernel, state, batches, num_steps=stage.num_steps - num_dropped,
            num_burnin=stage.num_burnin, thinning=stage.thinning, keep=functools.partial(keep, stage), **options,
        )  # fmt: skip
        position = training.fetch(state.position)
        results.append((state, trace))
    return results


class Played(NamedTuple):
    """The outcome of a game of two players; params have a leading axis of draws."""

    generators: Params  # all draws of a sampler, or one draw: the moving average under Adam
    discriminators: Params  # all draws of a sampler, or one draw: the last weights of Adam
    start: Params | None  # the generator from which a sampler starts, as one draw
    evaluations: PyTree  # evaluations of the generator during training, `[num_evaluations, ...]`
    aux: dict[str, PyTree]  # auxiliary outputs of each player's loss, averaged between evaluations
    steps: np.ndarray  # number of generator steps at each evaluation
    milliseconds: float | None  # milliseconds per step of one game without compilation; None if no step was run


def play_pair(
    run: Run, name: str, stages: Sequence[Stage], position: dict[str, Params], batches: Callable, *,
    rng_key: PRNGKey, evaluate: Callable[[Params], PyTree], num_games: int | None = None,
) -> Played:  # fmt: skip
    """Plays a game of two players and records `evaluate(generator params)`; other arguments as in `run_stages`."""
    evaluate_games = evaluate if num_games is None else jax.vmap(evaluate)

    def draw(state: Any) -> tuple[Params, Params]:
        player = state.players["generator"]
        generator = player.average if isinstance(player, kernels.AveragingState) else player.position
        return generator, state.players["discriminator"].position

    def keep(stage: Stage, state: Any) -> tuple[PyTree, PyTree]:
        return evaluate_games(draw(state)[0]), draw(state) if stage.is_sampler else ()

    def one_draw(params: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[None], training.fetch(params))

    keys = [jax.random.fold_in(rng_key, i) for i in range(len(stages))]
    results = run_stages(run, name, stages, position, batches, rng_keys=keys, keep=keep, num_games=num_games)
    traces, start = [trace for _, trace in results], None
    if stages[-1].is_sampler:
        draws, start = traces[-1].draws[1], one_draw(draw(results[-2][0])[0])
    else:
        draws = one_draw(draw(results[-1][0]))
    aux = [{player: info.aux for player, info in trace.info.players.items()} for trace in traces]
    per_stage = [trace.draws[0] for trace in traces], aux
    evaluations, aux = (jax.tree.map(lambda *parts: np.concatenate(parts), *each) for each in per_stage)
    steps = np.concatenate([stage.num_steps // stage.thinning * [stage.thinning] for stage in stages]).cumsum()
    return Played(draws[0], draws[1], start, evaluations, aux, steps, timings(traces, num_games or 1)["ms per step"])


def timings(traces: Sequence[training.Trace], num_games: int = 1) -> dict[str, float | None]:
    """Milliseconds per step of one game, and the fraction of time outside compiled chunks, excluding compilation. The
    values are None if a resumed run had no step left."""
    inside, num_steps = sum(trace.chunk_seconds for trace in traces), sum(trace.steps for trace in traces)
    total = sum(trace.seconds - trace.compile_seconds for trace in traces)
    return {
        "ms per step": 1e3 * inside / (num_steps * num_games) if num_steps else None,
        "fraction outside chunks": 1 - inside / total if num_steps else None,
    }
