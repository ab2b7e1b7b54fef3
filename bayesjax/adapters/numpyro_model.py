"""A NumPyro model as a log prior and a log likelihood of one example, over parameters without constraints.

    model = adapters.numpyro_model(regression, {"x": x, "y": y})
    logdensity = posteriors.log_posterior(model.log_likelihood, model.log_prior, num_data=len(x))
    draws = jax.vmap(model.constrain)(trace.draws)              values of the sites, under their names

The function of a NumPyro model is called with minibatches as keyword arguments. Each latent site has an unconstrained
parameter u under its name, and the value t(u) with NumPyro's bijection t onto the support of the site's distribution:

    log prior(u) = sum over latent sites of log p(t(u)) + log |det dt/du|
    log likelihood(u; example) = sum over observed sites of log p(observed value | t(u))

Models with a latent variable for each example have no such likelihood. `log_joint` of the whole data works for every
model, such as for HMC and NUTS. NumPyro is imported on the first call. Read `posteriors/log_posterior.py` next.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import tree
from bayesjax.types import Array, ArrayLike, PRNGKey

Sites = dict[str, Array]
Batch = Mapping[str, ArrayLike]


class NumPyroModel(NamedTuple):
    """The functions of a NumPyro model. Parameters are dicts of unconstrained arrays by the names of latent sites.

    Attributes:
      init: `rng_key -> params`; `vmap` over keys makes the initial parameters of many chains.
      log_prior: `params -> scalar`, normalised, with the log determinants of the Jacobians.
      log_likelihood: `(params, rng_key, example) -> scalar`, for one example without a batch axis.
      log_joint: `(params, rng_key, batch) -> scalar`, the log prior plus the log likelihood of all of `batch`, without
        the factor N/n of a minibatch.
      constrain: `params -> {site: value}`, the values of latent and of deterministic sites for the data that
        `numpyro_model` was given. `vmap` it over draws.
    """

    init: Callable[[PRNGKey], Sites]
    log_prior: Callable[[Sites], Array]
    log_likelihood: Callable[[Sites, PRNGKey, Batch], Array]
    log_joint: Callable[[Sites, PRNGKey, Batch], Array]
    constrain: Callable[[Sites], Sites]


class _Trace(NamedTuple):
    """The sites of a model that was run with given parameters, and the log determinants of its latent sites."""

    sites: dict[str, dict[str, Any]]
    log_determinants: Sites

    @property
    def latent(self) -> list[str]:
        return [name for name, site in self.sites.items() if _is_latent(site)]

    def log_prior(self) -> Array:
        names = [name for name, site in self.sites.items() if site["type"] == "sample" and not _is_data(site)]
        values = [_log_prob(self.sites[name]).sum() for name in names]
        return sum([*values, *self.log_determinants.values()], jnp.zeros(()))

    def log_likelihoods(self) -> Sites:
        return {name: _log_prob(site) for name, site in self.sites.items() if _is_data(site)}

    def log_likelihood(self) -> Array:
        return sum((each.sum() for each in self.log_likelihoods().values()), jnp.zeros(()))

    def log_joint(self) -> Array:
        return self.log_prior() + self.log_likelihood()


def numpyro_model(
    model: Callable[..., Any], batch: Batch, *, start: Literal["uniform", "prior"] = "uniform"
) -> NumPyroModel:
    """Returns the log densities of a NumPyro model as pure functions.

    Observed sites, and `numpyro.factor` inside of a plate, are the likelihood. Latent sites, and `numpyro.factor`
    outside of plates, are the prior.

    Args:
      model: `model(**batch)`, with `numpyro.sample(..., obs=...)`. Bind other arguments with `functools.partial`.
      batch: the data, arrays by argument name with a leading axis of at least 2 examples.
      start: law of the initial parameters: "uniform" on [-2, 2] without constraints, as in NumPyro, or the "prior".

    Returns:
      The functions. If the model has a latent variable for each example, or its prior depends on the data, `log_prior`
      and `log_likelihood` raise a ValueError that says so.

    Raises:
      ImportError: if NumPyro is not installed.
      ValueError: if the model has no latent or no observed site, a discrete latent site, a `numpyro.param` site on
        which the density depends, or a plate that draws subsamples; or `batch` has fewer than 2 examples.
    """
    if start not in ("uniform", "prior"):
        raise ValueError(f"start must be uniform or prior; got {start!r}")
    batch = dict(batch)
    num = tree.leading_axis(batch, "batch")
    if num < 2:
        raise ValueError(f"batch must have at least 2 examples; got {num}")
    run = _runner(model)
    trace = run({}, jax.random.key(0), batch)
    _check(trace)
    params = _unconstrained(trace)
    _check_params(run, params, trace, batch)
    problem, first = _why_not_by_example(run, params, batch), _examples(batch, 0, 1)

    def init(rng_key: PRNGKey) -> Sites:
        if start == "prior":
            return _unconstrained(run({}, rng_key, batch))
        keys = jax.random.split(rng_key, len(params))
        pairs = zip(keys, params.items(), strict=True)
        return {name: jax.random.uniform(key, u.shape, u.dtype, -2, 2) for key, (name, u) in pairs}

    def log_prior(params: Sites) -> Array:
        if problem:
            raise ValueError(problem)
        return run(params, jax.random.key(0), first).log_prior()

    def log_likelihood(params: Sites, rng_key: PRNGKey, example: Batch) -> Array:
        if problem:
            raise ValueError(problem)
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], dict(example))
        return run(params, rng_key, one).log_likelihood()

    def log_joint(params: Sites, rng_key: PRNGKey, batch: Batch) -> Array:
        return run(params, rng_key, batch).log_joint()

    def constrain(params: Sites) -> Sites:
        sites = run(params, jax.random.key(0), batch).sites
        return {
            name: site["value"]
            for name, site in sites.items()
            if site["type"] == "deterministic" or name in params
        }  # fmt: skip

    return NumPyroModel(init, log_prior, log_likelihood, log_joint, constrain)


def _runner(model: Callable[..., Any]) -> Callable[[Sites, PRNGKey, Batch], _Trace]:
    """Returns `(params, rng_key, batch) -> trace`; latent sites without parameters are drawn."""
    from numpyro import handlers
    from numpyro.distributions import biject_to

    def run(params: Sites, rng_key: PRNGKey, batch: Batch) -> _Trace:
        log_determinants = {}

        def value(site: dict[str, Any]) -> Array | None:
            name = site["name"]
            if site["type"] != "sample" or name not in params:
                return None
            if "_scan_current_index" in site["infer"]:
                raise ValueError(f"site {name}: latent sites inside of numpyro's scan are not supported")
            bijection = biject_to(site["fn"].support)
            constrained = bijection(params[name])
            log_determinants[name] = bijection.log_abs_det_jacobian(params[name], constrained).sum()
            return constrained

        filled = handlers.substitute(handlers.seed(model, rng_key), substitute_fn=value)
        with jax.numpy_rank_promotion("allow"):
            return _Trace(handlers.trace(filled).get_trace(**batch), log_determinants)

    return run


def _is_latent(site: dict[str, Any]) -> bool:
    return site["type"] == "sample" and not site["is_observed"]


def _is_data(site: dict[str, Any]) -> bool:
    """Whether a site belongs to the likelihood; `numpyro.factor` outside of plates does not."""
    from numpyro.distributions import Unit  # the distribution of `numpyro.factor`

    if site["type"] != "sample" or not site["is_observed"]:
        return False
    return not isinstance(site["fn"], Unit) or bool(site["cond_indep_stack"])


def _log_prob(site: dict[str, Any]) -> Array:
    with jax.numpy_rank_promotion("allow"):
        log_prob = site["fn"].log_prob(site["value"])
        return log_prob if site["scale"] is None else site["scale"] * log_prob


def _unconstrained(trace: _Trace) -> Sites:
    """The parameters at which the latent sites have the values of a trace."""
    from numpyro.distributions import biject_to

    sites = {name: trace.sites[name] for name in trace.latent}
    return {name: jnp.asarray(biject_to(site["fn"].support).inv(site["value"])) for name, site in sites.items()}


def _examples(batch: Batch, start: int, end: int) -> dict[str, Any]:
    return jax.tree.map(lambda leaf: leaf[start:end], dict(batch))


def _check(trace: _Trace) -> None:
    """Raises ValueError unless the sites of a model can be sampled by gradients."""
    if not trace.latent:
        raise ValueError("model must have a latent site, numpyro.sample without obs")
    if not trace.log_likelihoods():
        raise ValueError("model must have an observed site, numpyro.sample with obs")
    for name, site in trace.sites.items():
        if _is_latent(site) and site["fn"].support.is_discrete:
            raise ValueError(f"site {name} is latent and discrete: sum over its values in the model")
        if site["type"] == "plate" and len(site["value"]) != site["args"][0]:
            raise ValueError(f"plate {name} draws subsamples: give minibatches as arguments of the model instead")


def _check_params(run: Callable[..., _Trace], params: Sites, trace: _Trace, batch: Batch) -> None:
    """Raises ValueError if the density depends on `numpyro.param` sites, which have no prior.

    `random_flax_module` has such a site, with the initial weights, of which only the shapes matter.
    """
    from numpyro import handlers

    values = {name: site["value"] for name, site in trace.sites.items() if site["type"] == "param"}
    if not values:
        return

    def log_joint(values: dict[str, Any]) -> Array:
        with handlers.substitute(data=values):
            return run(params, jax.random.key(0), batch).log_joint()

    for name, gradient in jax.grad(log_joint)(values).items():
        if any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(gradient)):
            raise ValueError(f"site {name} is a numpyro.param: make it a numpyro.sample, or bind its value")


def _why_not_by_example(run: Callable[..., _Trace], params: Sites, batch: Batch) -> str | None:
    """Why a model has no log likelihood of one example, or None. Compares runs with one and with two examples."""
    rng_key = jax.random.key(0)
    advice = "use log_joint of the whole data in place of log_prior and log_likelihood"
    first, second, both = (run({}, rng_key, _examples(batch, *each)) for each in ((0, 1), (1, 2), (0, 2)))
    for name, u in params.items():
        for trace in (first, both):
            shape = np.shape(_unconstrained(trace)[name]) if name in trace.latent else None
            if shape != u.shape:
                return f"site {name} depends on the number of examples, {u.shape} for all and {shape} for few: {advice}"
    first, second, both = (run(params, rng_key, _examples(batch, *each)) for each in ((0, 1), (1, 2), (0, 2)))
    priors = float(first.log_prior()), float(second.log_prior())
    if not np.allclose(*priors, rtol=1e-6):
        return f"the prior depends on the data, {priors[0]:g} and {priors[1]:g} for two examples: {advice}"
    ones, twos = first.log_likelihoods(), both.log_likelihoods()
    for name, value in ones.items():
        if 2 * value.size != twos[name].size:
            return (
                f"site {name} must have a log likelihood for each example; its shape is {value.shape} for one and "
                f"{twos[name].shape} for two examples: {advice}"
            )
    alone, together = float(first.log_likelihood() + second.log_likelihood()), float(both.log_likelihood())
    if not np.allclose(alone, together, rtol=1e-4, atol=1e-4):
        return f"the log likelihoods of examples do not add up, {alone:g} alone and {together:g} together: {advice}"
    return None
