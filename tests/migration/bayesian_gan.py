"""Names of `bayesian_gan`: "ml js", "bayes T=0.1 js_draws"."""

MEASURES = {
    "js": "JS at the end (nats)",
    "js_draws": "JS of the draws (nats)",
    "js_r_hat": "R-hat of JS",
    "js_ess": "ESS of JS",
    "logit_r_hat": "worst R-hat of D(x)",
    "ms_per_step": "ms per step",
    "fraction_outside_chunks": "fraction outside chunks",
}


def row_keys(name, config):
    """Method, measure and temperature."""
    method, _, measure = name.rpartition(" ")
    method, _, temperature = method.partition(" T=")
    return {"method": method, "measure": MEASURES[measure], "T": float(temperature) if temperature else None}


def new_config(config):
    """The settings of the game have the names of all GANs."""
    return renamed(config) | {"kernel": "sghmc", "prior": "gaussian"}


def renamed(config):
    """Settings that both Bayesian GANs have; Adam's learning rate is now one for each player."""
    names = {"num_chains": "num_mc_samples", "warmup": "num_warmup", "adam_learning_rate": "generator_learning_rate"}
    rate = {"discriminator_learning_rate": config["adam_learning_rate"], "decay_from": 1.0, "momentum": 0.5}
    return {names.get(name, name): value for name, value in config.items()} | rate
