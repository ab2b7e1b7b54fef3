"""Names of `vae`: "latent=20 elbo test -ELBO epoch 1", "closed_form gradient variance"."""

ESTIMATORS = ("closed_form", "sampled", "score_function")
MEASURES = {
    "test -ELBO": "test -ELBO (nats)",
    "train -ELBO": "train -ELBO (nats)",
    "test KL": "test KL (nats)",
    "NLL": "NLL (nats)",
    "images of NLL": "NLL images",
    "annealed NLL": "annealed NLL (nats)",
    "annealed - sampled log p": "annealed - sampled log p (nats)",
    "images of annealed NLL": "annealed NLL images",
    "annealed acceptance": "annealing acceptance",
    "epochs before": "earlier epochs",
}


def row_keys(name, config):
    """The bound and number of latent dimensions of a model, or the estimator; the measure, and the epoch if given."""
    first, _, rest = name.partition(" ")
    if first in ESTIMATORS:
        return {"measure": MEASURES.get(rest, rest), "estimator": first}
    bound, _, rest = rest.partition(" ")
    measure, _, epoch = rest.partition(" epoch ")
    return {
        "method": bound,
        "measure": MEASURES.get(measure, measure),
        "latents": int(first.removeprefix("latent=")),
        "epoch": int(epoch) if epoch else None,
    }
