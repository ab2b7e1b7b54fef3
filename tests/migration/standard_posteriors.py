"""Names of `standard_posteriors`: "funnel nuts divergent %", "logistic reference mean of w 3"."""

MEASURES = {
    "worst mean (standard errors)": "largest error of a mean (standard errors)",
    "worst deviation %": "largest error of a standard deviation %",
    "its error %": "largest standard error of a standard deviation %",
    "largest r hat": "largest R-hat",
    "least bulk ess": "least bulk ESS",
    "bulk ess a 1000 gradients": "bulk ESS per 1000 gradients",
    "tail ess a 1000 gradients": "tail ESS per 1000 gradients",
    "gradients a draw": "gradients per draw",
}


def row_keys(name, config):
    """Target, method, measure, and the quantity of a reference's moments."""
    target, method, measure = name.split(" ", 2)
    quantity = None
    if " of " in measure and method == "reference":
        measure, _, quantity = measure.partition(" of ")
        measure = {"deviation": "standard deviation"}.get(measure, measure)
    return {
        "method": method, "measure": MEASURES.get(measure, measure), "target": target, "quantity": quantity,
    }  # fmt: skip
