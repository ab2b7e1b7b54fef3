"""Restricted Boltzmann machines: learning by persistent chains, likelihoods from both sides, and posterior draws.

Papers: Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood gradient", ICML 2008;
Melchior, Fischer & Wiskott, "How to center deep Boltzmann machines", JMLR 2016; Salakhutdinov & Murray, "On the
quantitative analysis of deep belief networks", ICML 2008.

    python -m experiments.rbm                              quick: digits, 10 hidden units: under a minute
    python -m experiments.rbm --kernel sghmc               quick, then posterior draws by SGHMC and by HMC
    python -m experiments.rbm --preset small               MNIST, 16 hidden units, exact likelihood, as in PyDeep
    python -m experiments.rbm --preset small_inverted      small, on inverted images
    python -m experiments.rbm --preset big                 MNIST, 500 hidden units
    python -m experiments.rbm --preset posterior           digits, 10 hidden units: longer chains of SGHMC and HMC

Each of --parameterisations is trained by persistent contrastive divergence (PCD). Its log p(x) is estimated by annealed
importance sampling, forward from independent units and in reverse from the chains. In expectation the forward estimate
of log p(x) is too high, and the reverse one too low if the chains have converged, so their gap bounds the error. With
at most 20 hidden units the table also has the exact value. Pixels are binarised anew at every step; test images are
binarised once. With --binarise none all images keep their grey values, for which p(x) is not a likelihood of the data.

With --kernel sgld or sghmc, chains over the weights start at the machine that PCD has trained. The gradient of the log
posterior is estimated from a minibatch of images and from persistent Gibbs chains. Each chain over the weights has
Gibbs chains of its own. HMC on the exact log posterior, with log Z by enumeration, is run for comparison, so
--num-hidden must be small.

Expected (small): PyDeep's log p(x) of test images is -142.56 (centred) and -149.05 (plain); on inverted images -142.09
and -183.36. These four values are for grey images.
Expected (big): PyDeep -84.86 by forward annealing (its reverse annealing gives -96.61), Salakhutdinov & Murray -86.34
(CD-25).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, evaluation, kernels, plots, posteriors, training
from bayesjax.evaluation import partition_function
from bayesjax.models import boltzmann
from bayesjax.objectives import boltzmann as objectives
from bayesjax.types import Kernel, Params
from experiments.harness import Column, Count, Natural, Positive, Range, Run, Table, cli, require, row
from experiments.shared import boltzmann as shared
from experiments.shared.binarisation import binarise
from experiments.shared.boltzmann import EXACT, FORWARD, REVERSE

Parameterisation = Literal["centred", "plain"]


@dataclass(frozen=True)
class Config(shared.MachineConfig):
    """Flags of experiments.rbm."""

    num_hidden: Count = 10
    """Number of hidden units."""
    parameterisations: tuple[Parameterisation, ...] = get_args(Parameterisation)
    """Parameterisations to compare; the offsets of the centred one follow the means of the units."""
    binarise: Literal["resampled", "none"] = "resampled"
    """Binarisation of pixels. `resampled` draws training pixels as 0 or 1 at every step, and test pixels once. `none`
    keeps grey values."""
    invert: bool = False
    """Invert the images, which exchanges black and white."""
    num_epochs: Count = 40
    """Number of epochs of training."""
    num_evaluations: Count = 4
    """Number of evenly spaced checkpoints whose likelihood is estimated; remaining steps are dropped."""
    kernel: Literal["sgd", "sgld", "sghmc"] = "sgd"
    """Method: sgd trains the machine. sgld and sghmc then sample the posterior of its weights, from where sgd ends."""
    prior_scale: Positive = 1.0
    """Standard deviation of the prior of every weight and bias."""
    step_size: Positive = 2e-6
    """Step size eta of sgld and sghmc. Eta times the number of images is the learning rate of the mean loss."""
    friction: Annotated[float, Range(above=0, below=1)] = 0.1
    """Fraction of the momentum that sghmc loses in each step, in (0, 1)."""
    num_posterior_chains: Count = 4
    """Number of independent chains over the weights."""
    num_sampling_steps: Count = 2000
    """Number of steps of each chain of sgld and sghmc; the first fifth is burn-in."""
    num_draws: Count = 40
    """Number of draws that each chain keeps."""
    num_hmc_steps: Natural = 200
    """Number of trajectories of each HMC chain on the exact posterior; 0 runs no HMC. The first third, at least 20, is
    warm-up. The rest is rounded down to a multiple of --num-draws, and is at least --num-draws."""

    def __post_init__(self) -> None:
        """Checks that the machine is small enough for HMC on the exact posterior, unless HMC is omitted."""
        super().__post_init__()
        if self.kernel == "sgd":
            return
        require(
            self.num_hidden <= shared.MAX_EXACT or not self.num_hmc_steps,
            f"--kernel {self.kernel} is compared with HMC on the exact posterior, which needs --num-hidden of at most "
            f"{shared.MAX_EXACT} or --num-hmc-steps 0; got {self.num_hidden}",
        )
        kept = self.num_sampling_steps - self.num_sampling_steps // 5
        require(
            kept >= self.num_draws,
            f"four fifths of --num-sampling-steps must be at least --num-draws, {self.num_draws}; got {kept} steps",
        )


QUICK = Config(learning_rate=0.3, num_temperatures=500)
SMALL = replace(
    QUICK, dataset="mnist", num_hidden=16, binarise="none", num_epochs=50, num_evaluations=10,
    learning_rate=0.15, final_rate=0.2, num_temperatures=2000,
)  # fmt: skip
POSTERIOR = replace(QUICK, parameterisations=("plain",), num_evaluations=1, kernel="sghmc")
PRESETS = {
    "quick": QUICK,
    "small": SMALL,
    "small_inverted": replace(SMALL, invert=True),
    "big": replace(
        SMALL, num_hidden=500, binarise="resampled", parameterisations=("centred",), num_epochs=100, num_evaluations=10,
        learning_rate=0.1, final_rate=0.05, num_temperatures=20_000,
    ),
    "posterior": replace(
        POSTERIOR, num_epochs=2000, num_chains=500, batch_size=500, step_size=5e-7, num_posterior_chains=8,
        num_sampling_steps=100_000, num_draws=100, num_hmc_steps=1500,
    ),
}  # fmt: skip
PUBLISHED = {
    "small": {"centred": -142.56, "plain": -149.05},
    "small_inverted": {"centred": -142.09, "plain": -183.36},
}
PREDICTIVE, TRAIN_MEAN, TRAIN_SD = (
    "posterior predictive log p(x) (nats)", "training log p(x) of a draw (nats)", "its standard deviation",
)  # fmt: skip
TABLES = [
    Table(
        {"method": "parameterisation"},
        [
            Column(EXACT, "log p(x), exact"), Column(EXACT, "published", field="paper"),
            Column(FORWARD, "forward AIS"), Column(REVERSE, "reverse AIS"), Column("AIS gap (nats)", "gap"),
            Column("effective chains, forward AIS", "effective chains", 0),
            Column("pseudo log-likelihood (nats)", "pseudo log p(x)"),
            Column("pixels reconstructed wrongly %", "wrong pixels %"), Column("seconds per epoch", "s per epoch"),
        ],
        where={"epoch": None, "kernel": None},
        note="Likelihoods are in nats per test image, and AIS is annealed importance sampling. Wrong pixels after one "
        "reconstruction depend on the mixing as much as on the fit. The literature reports them.",
    ),
    Table(
        {"epoch": "epoch", "method": "parameterisation"},
        [Column(FORWARD, "forward AIS"), Column(REVERSE, "reverse AIS"), Column(EXACT, "exact")],
        where={"kernel": None},
        note="The table has log p(x) of test images during training, by annealing from each checkpoint to the next.",
    ),
    Table(
        {"kernel": "kernel"},
        [
            Column(PREDICTIVE, "predictive log p(x)"), Column(TRAIN_MEAN, "training log p(x)"),
            Column(TRAIN_SD, "sd over draws", ".3g"), Column("split R-hat"), Column("effective draws", digits=0),
            Column("acceptance"),
        ],
        where={"kernel": ("hmc", "sgld", "sghmc", "sgd")},
        note="Posterior over the weights. Log p(x) is exact for each draw; the predictive distribution of a test image "
        "is the mean of p(x) over draws.",
    ),
]  # fmt: skip
HEADLINE = "rbm-small-mnist", {"measure": EXACT, "method": "centred", "epoch": None}


def machine_of(config: Config, num_visible: int, parameterisation: Parameterisation) -> boltzmann.RBM:
    """The restricted Boltzmann machine of one parameterisation."""
    return boltzmann.RBM(num_visible, config.num_hidden, is_centred=parameterisation == "centred")


# ---- point estimates


def evaluate(
    run: Run, name: Parameterisation, model: boltzmann.RBM, trained: shared.Trained, samples: np.ndarray,
    mean: np.ndarray, test: np.ndarray,
) -> list[dict]:  # fmt: skip
    """Rows of log p(x) of test images: by forward and reverse AIS, at each checkpoint, and exactly if possible."""
    config, machine, params = run.config, boltzmann.machine(model), trained.params
    free_energies = jax.jit(jax.vmap(machine.free_energy, in_axes=(None, 0)))
    sides = shared.log_partition_functions(run, name, machine, params, samples, mean)
    rows = shared.likelihood_rows(-free_energies(params, test), sides, method=name)
    rows.append(row("seconds per epoch", trained.seconds_per_epoch, method=name))
    if len(trained.epochs) > 1:
        rows += shared.curve_rows(run, name, machine, trained, samples, mean, test, method=name)
    if model.num_hidden <= shared.MAX_EXACT:
        log_z = jax.jit(functools.partial(shared.exact_log_partition_function, machine))
        published = PUBLISHED.get(config.preset, {}).get(name)
        exact = []
        for index, epoch in enumerate(trained.epochs):
            checkpoint = jax.tree.map(lambda leaf, index=index: jnp.asarray(leaf[index]), trained.checkpoints)
            values = evaluation.mean_estimate(-np.asarray(free_energies(checkpoint, test), float))
            log_p = values.value - float(log_z(checkpoint))
            exact.append(row(EXACT, log_p, values.stderr, n=len(test), method=name, epoch=round(float(epoch), 2)))
        at_end = {key: value for key, value in exact[-1].items() if key != "epoch"}
        rows += [*exact, at_end | ({"paper": published, "source": "PyDeep"} if published else {})]
    return rows


def fit_quality(model: boltzmann.RBM, params: Params, test: np.ndarray) -> dict[str, Any]:
    """Pseudo log-likelihood of up to 1000 test images, and the % of test pixels that one reconstruction gets wrong."""
    machine = boltzmann.machine(model)
    objective = objectives.negative_pseudo_likelihood(machine.free_energy)
    values = jax.jit(lambda x: jax.lax.map(lambda one: -objective(params, jax.random.key(0), one), x, batch_size=10))
    means = jax.jit(jax.vmap(lambda x: machine.visible(params, machine.hidden(params, x).mean()).mean()))
    chosen = test[:1000]
    return {
        "pseudo log-likelihood (nats)": evaluation.mean_estimate(np.asarray(values(chosen), float)),
        "pixels reconstructed wrongly %": 100 * float(np.mean((means(test) > 0.5) != (test > 0.5))),
    }


def draw(
    run: Run, name: str, model: boltzmann.RBM, trained: shared.Trained, history: np.ndarray, test: np.ndarray,
    shape: tuple,
) -> None:  # fmt: skip
    """Draws filters, reconstructions, and chains during Gibbs sampling from the trained machine."""
    machine, params = boltzmann.machine(model), trained.params
    shared.draw_filters(run, name, params["kernel"], shape)
    visible = jax.jit(jax.vmap(lambda v: machine.visible(params, machine.hidden(params, v).mean()).mean()))
    shown = test[: history.shape[1]]
    rows = {"test": shown, "mean": visible(shown), "chains": visible(trained.chains[: len(shown)])}
    rows |= {f"{sweeps} sweeps on": visible(history[sweeps // 10 - 1]) for sweeps in (10, 100, 1000)}
    grid = np.stack([np.asarray(each) for each in rows.values()]).reshape(len(rows), len(shown), *shape)
    title = f"reconstructions, and chains along Gibbs sampling, {name}"
    plots.image_grid(run.figure(f"images-{name}.png"), grid, row_names=list(rows), title=title)


# ---- posterior over the weights


def sample_posterior(run: Run, model: boltzmann.RBM, start_params: Params, chains: np.ndarray, x: np.ndarray) -> dict:
    """Draws of the weights by the sampler of --kernel and by HMC on the exact posterior: `{kernel: (draws, info)}`."""
    config, machine, num_data = run.config, boltzmann.machine(model), len(x)
    log_prior = posteriors.gaussian(config.prior_scale)
    data_key, init_key, run_key = jax.random.split(jax.random.key(config.seed + 2), 3)
    num = config.num_posterior_chains
    stacked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *leaf.shape)), start_params)

    # The estimate of the log posterior: log prior minus N times the difference of free energies.
    gibbs = kernels.particles(kernels.block_gibbs(machine.hidden, machine.visible), config.num_chains)
    loss = objectives.persistent_contrastive_divergence(machine.free_energy, gibbs, num_steps=config.num_gibbs_steps)
    density = posteriors.from_loss(loss, log_prior, num_data)
    samplers: dict[str, Callable[[], Kernel]] = {
        "sgld": lambda: kernels.sgld(density, step_size=config.step_size),
        "sghmc": lambda: kernels.sghmc(density, step_size=config.step_size, friction=config.friction),
    }
    kernel = kernels.carrying(samplers[config.kernel](), gibbs.init(jnp.asarray(chains), init_key))
    kernel, options = run.stage(config.kernel, kernels.particles(kernel, num, batch_axis=0))
    batches = data.independent_minibatches(data_key, x, config.batch_size, num)
    num_burnin = config.num_sampling_steps // 5
    thinning = (config.num_sampling_steps - num_burnin) // config.num_draws
    _, trace = training.run(
        run_key, kernel, jax.jit(kernel.init)(stacked, init_key), batches,
        num_steps=num_burnin + thinning * config.num_draws, num_burnin=num_burnin, thinning=thinning, **options,
    )  # fmt: skip
    results = {config.kernel: (trace.draws, {})}
    if not config.num_hmc_steps:
        return results

    # The exact log posterior, with log Z by enumeration of the hidden units.
    def log_partition_function(params: Params) -> jax.Array:
        return partition_function.log_partition_function(machine.hidden_free_energy, params, model.num_hidden)

    exact = objectives.exact_negative_log_likelihood(machine.free_energy, log_partition_function)
    exact_density = posteriors.log_posterior(
        lambda params, rng_key, x: -exact(params, rng_key, x)[0], log_prior, num_data
    )

    def make(*, step_size: jax.Array, inverse_mass_matrix: jax.Array) -> Kernel:
        return kernels.hmc(
            exact_density, step_size=kernels.jittered(step_size, 0.8), num_integration_steps=20, full_batch=True,
            inverse_mass_matrix=inverse_mass_matrix,
        )  # fmt: skip

    num_warmup = max(20, config.num_hmc_steps // 3)
    hmc = kernels.adapt(make, num_steps=num_warmup, step_size=0.01, mass="fixed", target_acceptance=0.7)
    kernel, options = run.stage("hmc", kernels.particles(hmc, num))
    thinning = max(1, (config.num_hmc_steps - num_warmup) // config.num_draws)
    _, trace = training.run(
        jax.random.fold_in(run_key, 1), kernel, jax.jit(kernel.init)(stacked, init_key), jnp.asarray(x),
        num_steps=num_warmup + thinning * config.num_draws, num_burnin=num_warmup, thinning=thinning, **options,
    )  # fmt: skip
    acceptance = float(trace.info.inner.acceptance_probability.mean())
    return {**results, "hmc": (trace.draws, {"acceptance": acceptance})}


def posterior_rows(
    model: boltzmann.RBM, results: dict, point: Params, x: np.ndarray, test: np.ndarray
) -> tuple[list[dict], dict]:
    """Rows of the point estimate and each kernel, and training log-likelihoods `{kernel: [num_chains, num_draws]}`."""
    machine = boltzmann.machine(model)

    @jax.jit
    def log_likelihoods(params: Params, images: jax.Array) -> jax.Array:
        log_z = partition_function.log_partition_function(machine.hidden_free_energy, params, model.num_hidden)
        return -jax.vmap(machine.free_energy, in_axes=(None, 0))(params, images) - log_z

    rows, traces = [], {}
    for name, (draws, measures) in {"sgd": (point, {}), **results}.items():
        keys = {"method": "plain", "kernel": name}
        if name == "sgd":
            rows += [
                row(PREDICTIVE, evaluation.mean_estimate(np.asarray(log_likelihoods(point, test), float)), **keys),
                row(TRAIN_MEAN, float(log_likelihoods(point, x).mean()), **keys),
            ]
            continue
        flat = jax.tree.map(lambda leaf: jnp.asarray(leaf.reshape(-1, *leaf.shape[2:])), draws)
        of_test, of_train = (
            np.asarray(jax.lax.map(lambda params, images=images: log_likelihoods(params, images), flat), float)
            for images in (test, x)
        )
        num_draws, num_chains = draws["kernel"].shape[:2]
        chains = of_train.mean(axis=1).reshape(num_draws, num_chains).T
        ess = float(np.sum(evaluation.effective_sample_size(chains)))
        predictive = evaluation.mean_estimate(jax.nn.logsumexp(of_test, axis=0) - np.log(len(of_test)))
        rows += [
            row(PREDICTIVE, predictive, **keys),
            row(TRAIN_MEAN, float(chains.mean()), float(chains.std() / np.sqrt(ess)), **keys),
            row(TRAIN_SD, float(chains.std()), **keys),
            row("split R-hat", float(evaluation.split_r_hat(chains)), **keys),
            row("effective draws", ess, **keys),
            *(row(measure, value, **keys) for measure, value in measures.items()),
        ]
        traces[name] = chains
    return rows, traces


def main(config: Config) -> None:
    """Trains every parameterisation, estimates likelihoods and, with a sampler as --kernel, samples the posterior."""
    with Run("rbm", config, one_device=True) as run:
        images = shared.load(config)
        x, test = (1 - each if config.invert else each for each in (images.train, images.test))
        test = binarise(test, seed=2) if config.binarise == "resampled" else test
        mean, steps_per_epoch = x.mean(axis=0), max(1, len(x) // config.batch_size)
        order_key, pixel_key, start_key, chain_key = jax.random.split(jax.random.key(config.seed), 4)
        batches: Callable = data.Minibatches(order_key, x, config.batch_size)
        if config.binarise == "resampled":
            batches = data.Binarised(pixel_key, batches)
        rows, curves, trained = [], {}, None
        for name in config.parameterisations:
            model = machine_of(config, x.shape[1], name)
            machine, params = boltzmann.machine(model), shared.start(model, start_key, mean)
            first = partition_function.base_draws(
                machine, shared.base_machine(params, mean), chain_key, config.num_chains
            )
            trained = shared.train(
                run, name, machine, params, batches, first, num_epochs=config.num_epochs,
                steps_per_epoch=steps_per_epoch, num_evaluations=config.num_evaluations,
            )  # fmt: skip
            samples, history = shared.equilibrate(run, name, machine, trained.params, trained.chains)
            rows += evaluate(run, name, model, trained, samples, mean, test)
            quality = run.part(f"{name}-quality", lambda m=model, t=trained: fit_quality(m, t.params, test))
            rows += [
                row(measure, value["value"] if isinstance(value, dict) else value, method=name)
                for measure, value in quality.items()
            ]
            draw(run, name, model, trained, history, test, images.shape)
            for measure, side in ((FORWARD, "forward"), (REVERSE, "reverse"), (EXACT, "exact")):
                points = [(each["epoch"], each["value"]) for each in rows if each["method"] == name
                          and each["measure"] == measure and "epoch" in each]  # fmt: skip
                if points:
                    epochs, values = zip(*points, strict=True)
                    curves[f"{name}, {side}"] = epochs, np.array(values)[None]
        if curves:
            plots.curves(
                run.figure("likelihood.png"), curves, xlabel="epoch", ylabel="log p(x) of test images (nats)",
                title="annealed importance sampling along the training",
            )  # fmt: skip
        if config.kernel != "sgd" and trained is not None:
            model = machine_of(config, x.shape[1], "plain")
            point = boltzmann.remove_offsets(trained.params)
            binary = binarise(x, seed=1) if config.binarise == "resampled" else x  # a posterior needs fixed data
            results = sample_posterior(run, model, point, trained.chains, binary)
            more, traces = run.part("posterior", lambda: posterior_rows(model, results, point, binary, test))
            rows += more
            plots.traces(
                run.figure("posterior.png"), {f"training log p(x), {name}": each for name, each in traces.items()}
            )
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
