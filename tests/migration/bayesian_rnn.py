"""Names of `bayesian_rnn`: "bbb test", "bbb test at the end, draws averaged", "known perplexity"."""


def row_keys(name, config):
    """Method with its setting, measure, and which epoch and weights the perplexity is of."""
    if name == "known perplexity":
        return {"measure": "lowest possible perplexity"}
    method, _, rest = name.partition(" ")
    keys = {"method": method}
    if method != "lstm":
        keys |= {"dropout": config["dropout_rate"]} if method == "dropout" else {"kl_factor": config["kl_weight"]}
    if rest in ("best epoch", "seconds per epoch"):
        return keys | {"measure": rest}
    text, _, when = rest.partition(" ")
    keys["measure"] = f"{text} perplexity"
    if not when:
        return keys | {"epoch": "best"}
    return keys | {"epoch": "last", "weights": "draws" if when.endswith("draws averaged") else "mean"}
