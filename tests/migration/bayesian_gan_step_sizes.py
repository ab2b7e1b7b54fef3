"""Names of `bayesian_gan_step_sizes`: "T=1 friction=0.1 learning_rate=0.001 discriminator kinetic temperature / T"."""


def row_keys(name, config):
    """Measure, player and setting."""
    temperature, friction, learning_rate, player = name.split()[:4]
    setting = {
        key: float(text.partition("=")[2])
        for key, text in (("temperature", temperature), ("friction", friction), ("learning_rate", learning_rate))
    }
    return {"measure": "kinetic temperature / T", "player": player, **setting}


def new_config(config):
    """All steps are counted, those of the warm-up included."""
    config = {"num_warmup" if name == "warmup" else name: value for name, value in config.items()}
    return config | {"num_steps": config["num_warmup"] + config["num_steps"]}
