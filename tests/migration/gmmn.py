"""Names of `gmmn`: "training images width", "code adam log-likelihood", "auto-encoder cross-entropy"."""

MEASURES = {
    "log-likelihood": "Parzen log-likelihood (nats)",
    "width": "window width",
    "loss": "loss at the end",
}
FLAGS = {
    "space": "spaces",
    "kernel": "kernels",
    "init_scale": "initial_scale",
    "warmup": "warmup_kernel",
    "sampling_steps": "num_sampling_steps",
    "sampling_rate": "sampling_learning_rate",
    "code_dropout": "code_dropout_rates",
    "code_steps": "num_code_steps",
    "code_rate": "code_learning_rate",
}


def row_keys(name, config):
    """The kernel and the space of a model, or what else was measured; the measure."""
    if name == "auto-encoder cross-entropy":
        return {"method": "auto-encoder", "measure": "cross-entropy (nats)"}
    first, second, measure = name.split(" ", 2)
    measure = MEASURES.get(measure, measure)
    if first == "training":
        return {"method": "training images", "measure": measure}
    return {"method": second, "measure": measure, "space": first}


def new_config(config):
    """The configuration with its present flags; no value has changed its meaning."""
    return {FLAGS.get(name, name): value for name, value in config.items()}
