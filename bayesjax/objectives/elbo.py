"""Evidence lower bounds of one example, for an encoder, a decoder and a prior that are distributions.

    log p(x) >= E_q [ log p(x | z) + log p(z) - log q(z | x) ]            SGVB A: every term is sampled
              = E_q [ log p(x | z) ] - KL(q(z | x) || p(z))               SGVB B: the divergence in closed form
    log p(x) >= E_q log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x)          importance-weighted, increases with k

Draws z ~ q(z | x) are reparameterised, z = mean + scale * noise, so the bounds are differentiable in q's parameters.
For other families q, the score function gives a gradient with the same expectation and a larger variance:

    d/dphi E_q [ f(z) ] = E_q [ f(z) d/dphi log q(z | x) ] + E_q [ d/dphi f(z) ]

phi are the parameters of q, and z is held fixed on the right-hand side. The estimate is for first derivatives only.

The distributions may be those of distrax, NumPyro or distreqx (`distributions.py`).

Sources: Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, section 2.2, equations 6 and 7; Burda, Grosse
& Salakhutdinov, "Importance weighted autoencoders", ICLR 2016. `models/vae.py` has encoders and decoders:

    loss = objectives.batch_mean(elbo.negative_elbo(encode, decode, prior))

For a posterior over the weights of the decoder as well (Kingma & Welling, appendix F), combine this bound with
`bayes_by_backprop`, as in `tests/objectives/test_elbo_estimators.py`. The encoder's parameters are then part of the
variational parameters. Read `evaluation/likelihood.py` next for estimates of log p(x).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bayesjax import checks, distributions
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
    """Negative evidence lower bound of one example.

        loss = -1/L sum_l log p(x | z_l) + beta KL(q(z | x) || p(z)),    z_l ~ q(z | x)

    Args:
      encode: `(params, x) -> q(z | x)`.
      decode: `(params, z) -> p(x | z)`, for one latent vector.
      prior: p(z).
      num_samples: L, the number of draws of z.
      beta: weight of the divergence. For beta = 1 the expected loss is an upper bound on -log p(x). For other values
        see Higgins et al., "beta-VAE", ICLR 2017.
      kl: "closed_form" (SGVB B) for pairs of distributions that their library supports, or "sampled" (SGVB A), which
        estimates the divergence by 1/L sum_l log q(z_l | x) - log p(z_l) for any pair.
      gradient: "reparameterised" differentiates through the draws of z, which must not be discrete. "score_function"
        works for any q whose log density is differentiable.

    Returns:
      `(params, rng_key, x) -> (loss, aux)`, in nats. `aux` has "reconstruction", the mean of log p(x | z_l), and "kl",
      the divergence without its weight.

    Raises:
      ValueError: if an option is invalid. The returned loss raises it if the divergence has no closed form, and its
        gradient if draws of q are not differentiable.
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
        divergence = distributions.kl_divergence(posterior, prior) if kl == "closed_form" else log_ratio.mean()
        loss = beta * divergence - reconstruction
        if gradient == "score_function":  # the added term has value 0 and gradient f(z) d log q
            sampled = -log_likelihoods if kl == "closed_form" else beta * log_ratio - log_likelihoods
            loss += jnp.mean(lax.stop_gradient(sampled) * (log_q - lax.stop_gradient(log_q)))
        return loss, {"reconstruction": reconstruction, "kl": divergence}

    return objective


def negative_iwae_bound(
    encode: Conditional, decode: Conditional, prior: Distribution, *, num_samples: int
) -> Objective:
    """Negative importance-weighted bound of one example, the loss of an IWAE.

        loss = -log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x),    z_i ~ q(z | x)

    For k = 1 it is the negative ELBO with a sampled divergence. As k tends to infinity, it converges to -log p(x).
    Source: Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.

    Args:
      encode: `(params, x) -> q(z | x)`.
      decode: `(params, z) -> p(x | z)`, for one latent vector.
      prior: p(z).
      num_samples: k, the number of draws of z.

    Returns:
      `(params, rng_key, x) -> (loss, aux)`, in nats. `aux` is as in `negative_elbo`, so `reconstruction - kl` is the
      ELBO of the same draws.

    Raises:
      ValueError: if `num_samples` is not positive. The gradient of the loss raises it if draws of q are not
        differentiable.
    """
    terms = _sampled_terms(encode, decode, prior, num_samples)

    def objective(params: Params, rng_key: PRNGKey, x: Array) -> tuple[Array, dict[str, Array]]:
        _, _, log_likelihoods, log_ratio = terms(params, rng_key, x)
        bound = jax.nn.logsumexp(log_likelihoods - log_ratio) - math.log(num_samples)
        return -bound, {"reconstruction": log_likelihoods.mean(), "kl": log_ratio.mean()}

    return objective


def log_likelihood(decode: Conditional, params: Params, z: Array, x: Array) -> Array:
    """Log p(x | z) of one example and one latent vector.

    Args:
      decode: `(params, z) -> p(x | z)`, for one latent vector.
      params: parameters of the decoder.
      z: latent vector `[latent_dim]`.
      x: one example.

    Returns:
      A scalar, in nats.

    Raises:
      ValueError: if p(x | z) is not one distribution over examples of the shape of x. Without this check, broadcasting
        would hide the error.
    """
    likelihood = decode(params, z)
    event, batch = distributions.shapes(likelihood)
    if event != x.shape or batch:
        raise ValueError(
            f"decode must give a distribution over x, of shape {x.shape}; got event_shape {event} and batch_shape "
            f"{batch} (Independent, or to_event of NumPyro, turns batch axes into event axes)"
        )
    return checks.scalar(distributions.log_prob(likelihood, x), "log_prob of decode's distribution")


def _sampled_terms(
    encode: Conditional, decode: Conditional, prior: Distribution, num_samples: int, *, through_draws: bool = True
) -> Callable[[Params, PRNGKey, Array], tuple[Distribution, Array, Array, Array]]:
    """Returns `(params, rng_key, x) -> q(z | x), [log q(z_i | x)], [log p(x | z_i)], [log q(z_i | x) - log p(z_i)]`.

    The draws z_i ~ q(z | x) are differentiable if `through_draws`, and constants otherwise.
    """
    checks.count(num_samples=num_samples)

    def terms(params: Params, rng_key: PRNGKey, x: Array) -> tuple[Distribution, Array, Array, Array]:
        posterior = encode(params, x)
        z, log_q = distributions.sample_and_log_prob(posterior, rng_key, (num_samples,))
        if not through_draws:
            z = lax.stop_gradient(z)
            log_q = distributions.log_prob(posterior, z, (num_samples,))
        elif not distributions.is_reparameterised(posterior, z):
            log_q = _raise_if_differentiated(log_q)
        log_prior = distributions.log_prob(prior, z, (num_samples,))

        def log_prob(z: Array) -> Array:
            return log_likelihood(decode, params, z, x)

        # A single draw gets no sample axis, because XLA would transpose the gradients of the decoder for such an axis.
        log_likelihoods = log_prob(z[0])[None] if num_samples == 1 else jax.vmap(log_prob)(z)
        for name, value in (("encode", log_q), ("prior", log_prior)):
            if value.shape != (num_samples,):
                raise ValueError(
                    f"{name} must give a distribution whose log_prob of one event is a scalar (Independent, "
                    f"or to_event of NumPyro, turns batch axes into event axes); got shape {value.shape[1:]}"
                )
        return posterior, log_q, log_likelihoods, log_q - log_prior

    return terms


@jax.custom_jvp
def _raise_if_differentiated(log_q: Array) -> Array:
    """Returns `log_q`: bounds of discrete distributions q can be evaluated, but not differentiated through draws."""
    return log_q


@_raise_if_differentiated.defjvp
def _raise(primals: Any, tangents: Any) -> Any:
    raise ValueError(
        "encode gives a distribution whose draws are not differentiable, so gradients of its parameters would be "
        "wrong; use negative_elbo with kl='sampled' and gradient='score_function'"
    )
