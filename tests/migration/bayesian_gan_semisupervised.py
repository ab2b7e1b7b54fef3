"""Names of `bayesian_gan_semisupervised`: "dcgan N_s=20 error %", "dcgan - bayes N_s=20 error %"."""

import numpy as np

from tests.migration.bayesian_gan import renamed

DIFFERENCE = "error % minus that of bayes"
MEASURES = {"nll": "negative log-likelihood"}


def row_keys(name, config):
    """Method, measure and number of labels."""
    method, _, rest = name.partition(" N_s=")
    num, _, measure = rest.partition(" ")
    if method.endswith(" - bayes"):
        method, measure = method.removesuffix(" - bayes"), DIFFERENCE
    return {"method": method, "measure": MEASURES.get(measure, measure), "labels": int(num)}


def more_rows(rows):
    """Differences from bayes, which the table computed from the errors of single draws of the labels."""
    present = {row["method"] for row in rows if row["measure"] == DIFFERENCE}
    errors = {(row["method"], row["labels"]): row["values"] for row in rows if row["measure"] == "error %"}
    differences = []
    for (method, num), values in errors.items():
        if method not in present | {"bayes"}:
            paired = np.subtract(values, errors["bayes", num])
            keys = {"method": method, "measure": DIFFERENCE, "labels": num}
            stderr = paired.std(ddof=1) / np.sqrt(len(paired))
            differences.append(keys | {"value": paired.mean(), "stderr": stderr})
    return differences


def new_config(config):
    """A number of held-out images in place of the split's name."""
    config = renamed(config)
    return config | {"kernel": "sghmc", "num_validation": 240 if config.pop("evaluate_on") == "validation" else 0}
