"""Names of `semi_supervised_gan`: "gan N_s=20 error %", "Bayesian table bayes N_s=20 error %"."""

from tests.migration.bayesian_gan_semisupervised import row_keys as few_labels_keys

PREFIX = "Bayesian table "


def row_keys(name, config):
    """Method, measure and number of labels, and the origin of what was copied."""
    keys = few_labels_keys(name.removeprefix(PREFIX), config)
    if name.startswith(PREFIX):
        kernel = {"dcgan": "adam", "bayes": "sghmc"}[keys["method"]]
        keys |= {"kernel": kernel, "experiment": "bayesian_gan_semisupervised"}
    return keys


def new_config(config):
    """The warm-up in steps, and the present names."""
    names = {"num_checks": "num_evaluations"}
    config = {names.get(name, name): value for name, value in config.items()}
    return config | {"num_warmup": round(config.pop("warmup") * config["num_steps"]), "prior": "fan_in"}
