"""Names of `adversarial_games`: "bilinear simultaneous eta=0.2"."""


def row_keys(name, config):
    """Game, method and step size; the theoretical factor is a field of the row already."""
    game, method, step_size = name.split()
    return {
        "method": method,
        "measure": "factor per step",
        "game": game,
        "step_size": float(step_size.removeprefix("eta=")),
    }
