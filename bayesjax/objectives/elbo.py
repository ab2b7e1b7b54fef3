"""The evidence lower bound of one example, from an encoder, a decoder and a prior that are distrax distributions.

    log p(x) >= E_q [ log p(x | z) + log p(z) - log q(z | x) ]            SGVB A: every term sampled
              = E_q [ log p(x | z) ] - KL(q(z | x) || p(z))               SGVB B: the divergence in closed form
    log p(x) >= E_q log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x)          importance-weighted; rises with k

The draws z ~ q(z | x) are differentiable in q's parameters (z = mean + scale * noise), and so are the bounds. Where
draws are not, or to see what that saves, the score function gives the same gradient in the mean, with more variance:

    d/dphi E_q [ f(z) ] = E_q [ f(z) d/dphi log q(z | x) ] + E_q [ d/dphi f(z) ]      z held fixed; first derivatives

Sources: Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, section 2.2, equations 6 and 7; Burda, Grosse
& Salakhutdinov, "Importance weighted autoencoders", ICLR 2016. Networks to put in are in `models/vae.py`:

    loss = objectives.batch_mean(elbo.negative_elbo(encode, decode, prior))

A posterior over the decoder's weights, too (Kingma & Welling, appendix F), is `bayes_by_backprop` on this bound: the
encoder's parameters in the variational ones, as points; `tests/objectives/test_elbo_estimators.py` composes it.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from bayesjax import checks
from bayesjax.types import Array, Conditional, Distribution, Params, PRNGKey

Objective = Callable[[Params, PRNGKey, Array], tuple[Array, dict[str, Array]]]
KL = ("closed_form", "sampled")
GRADIENTS = ("reparameterised", "score_function")


def negative_elbo(
    encode: Conditional,
    decode: Conditional,
    prior: Distribution,
    *,
    num_samples: int = 1,
    beta: float = 1.0,
    kl: str = "closed_form",
    gradient: str = "reparameterised",
) -> Objective:
    """-1/L sum_l log p(x | z_l) + beta KL(q(z | x) || p(z)), z_l ~ q(z | x).

    Args:
      encode: `(params, x) -> q(z | x)`.
      decode: `(params, z) -> p(x | z)`, of one latent vector.
      prior: p(z).
      num_samples: L.
      beta: weight of the divergence; 1 for a bound on log p(x), other values as in Higgins et al. ("beta-VAE", ICLR
        2017).
      kl: "closed_form" (SGVB B) where distrax has one; "sampled" (SGVB A), 1/L sum_l log q(z_l | x) - log p(z_l), for
        any pair of distributions.
      gradient: "reparameterised", through the draws; "score_function", for any q whose log density is differentiable.

    Returns:
      `(params, rng_key, x) -> (scalar, aux)`, to be minimised; aux has the two parts, `reconstruction` (the mean of
      log p(x | z)) and `kl`.

    Raises:
      ValueError: if an option is out of range or, when evaluated, there is no closed form.
    """
    checks.non_negative(beta=beta)
    if kl not in KL:
        raise ValueError(f"kl must be one of {', '.join(KL)}; got {kl!r}")
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient must be one of {', '.join(GRADIENTS)}; got {gradient!r}")
    terms = _sampled_terms(encode, decode, prior, num_samples, through_draws=gradient == "reparameterised")

    def objective(params: Params, rng_key: PRNGKey, x: Array) -> tuple[Array, dict[str, Array]]:
        posterior, log_q, log_likelihoods, log_ratio = terms(params, rng_key, x)
        reconstruction = log_likelihoods.mean()
        divergence = _closed_form_kl(posterior, prior) if kl == "closed_form" else log_ratio.mean()
        loss = beta * divergence - reconstruction
        if gradient == "score_function":  # zero, with the gradient f(z) d log q
            sampled = -log_likelihoods if kl == "closed_form" else beta * log_ratio - log_likelihoods
            loss += jnp.mean(lax.stop_gradient(sampled) * (log_q - lax.stop_gradient(log_q)))
        return loss, {"reconstruction": reconstruction, "kl": divergence}

    return objective


def negative_iwae_bound(
    encode: Conditional, decode: Conditional, prior: Distribution, *, num_samples: int
) -> Objective:
    """-log 1/k sum_i w_i, w_i = p(x | z_i) p(z_i) / q(z_i | x), z_i ~ q(z | x): what an IWAE minimises.

    For k = 1 it is the negative ELBO of SGVB A; for k -> infinity, -log p(x).

    Args:
      encode: `(params, x) -> q(z | x)`.
      decode: `(params, z) -> p(x | z)`, of one latent vector.
      prior: p(z).
      num_samples: k.

    Returns:
      `(params, rng_key, x) -> (scalar, aux)`; aux as in `negative_elbo`, so that `reconstruction - kl` is the ELBO of
      the same draws.

    Raises:
      ValueError: if `num_samples` is not positive.
    """
    terms = _sampled_terms(encode, decode, prior, num_samples)

    def objective(params: Params, rng_key: PRNGKey, x: Array) -> tuple[Array, dict[str, Array]]:
        _, _, log_likelihoods, log_ratio = terms(params, rng_key, x)
        bound = jax.nn.logsumexp(log_likelihoods - log_ratio) - math.log(num_samples)
        return -bound, {"reconstruction": log_likelihoods.mean(), "kl": log_ratio.mean()}

    return objective


def log_likelihood(decode: Conditional, params: Params, z: Array, x: Array) -> Array:
    """Log p(x | z), a scalar, of one latent vector and one example.

    Raises:
      ValueError: if p(x | z) is not over examples of that shape, which broadcasting would hide.
    """
    likelihood = decode(params, z)
    event, batch = tuple(likelihood.event_shape), tuple(likelihood.batch_shape)
    if event != x.shape or batch:
        raise ValueError(
            f"decode must give a distribution over x, of shape {x.shape}; got one over shape {event}, and "
            f"{batch or 'one'} of them (distrax.Independent makes one of many)"
        )
    return checks.scalar(likelihood.log_prob(x), "log_prob of decode's distribution")


def _sampled_terms(
    encode: Conditional, decode: Conditional, prior: Distribution, num_samples: int, *, through_draws: bool = True
) -> Callable[[Params, PRNGKey, Array], tuple[Distribution, Array, Array, Array]]:
    """`(params, rng_key, x) -> q(z | x), [log q(z_i | x)], [log p(x | z_i)], [log q(z_i | x) - log p(z_i)]`, of draws
    z_i ~ q(z | x) that are differentiable or held fixed.

    Raises:
      ValueError: if `num_samples` is not positive or, when evaluated, a distribution is not over whole vectors.
    """
    checks.count(num_samples=num_samples)

    def terms(params: Params, rng_key: PRNGKey, x: Array) -> tuple[Distribution, Array, Array, Array]:
        posterior = encode(params, x)
        with jax.numpy_rank_promotion("allow"):  # distrax broadcasts parameters against draws
            z, log_q = posterior.sample_and_log_prob(seed=rng_key, sample_shape=(num_samples,))
            if not through_draws:
                z = lax.stop_gradient(z)
                log_q = posterior.log_prob(z)
            log_prior = prior.log_prob(z)

        def log_prob(z: Array) -> Array:
            return log_likelihood(decode, params, z, x)

        # One draw without an axis of its own, for which XLA would transpose what the decoder passes back.
        log_likelihoods = log_prob(z[0])[None] if num_samples == 1 else jax.vmap(log_prob)(z)
        for name, value in (("encode", log_q), ("prior", log_prior)):
            if value.shape != (num_samples,):
                raise ValueError(
                    f"{name} must give a distribution whose log_prob of one event is a scalar (distrax.Independent "
                    f"makes one of many); got shape {value.shape[1:]}"
                )
        return posterior, log_q, log_likelihoods, log_q - log_prior

    return terms


def _closed_form_kl(posterior: Distribution, prior: Distribution) -> Array:
    try:
        return posterior.kl_divergence(prior)
    except NotImplementedError:
        raise ValueError(
            f"kl: distrax has no closed form between {posterior.name} and {prior.name}; use kl='sampled'"
        ) from None
