"""Names of `uncertainty`: "softmax nll, 300 points", "softmax exponent of epistemic", and two of known noise."""

CLASSIFICATION = ("noisy_logits", "softmax")
MEASURES = {"nll": "NLL (nats)", "ece": "ECE", "coverage of the 90 % band": "coverage of the 90 % band %"}


def row_keys(name, config):
    """Method, measure and number of training points; the uncertainties of classes are in nats, the others variances."""
    if name == "known aleatoric of the classes":
        return {"method": "true classes", "measure": "expected entropy (nats)"}
    if name == "known aleatoric of the regression":
        return {"method": "true regression", "measure": "aleatoric variance"}
    method, _, rest = name.partition(" ")
    if rest.startswith("exponent of "):
        return {"method": method, "measure": f"{rest} uncertainty"}
    measure, _, points = rest.removesuffix(" points").rpartition(", ")
    uncertainties = {"epistemic": "epistemic variance", "aleatoric": "aleatoric variance"}
    if method in CLASSIFICATION:
        uncertainties = {"epistemic": "mutual information (nats)", "aleatoric": "expected entropy (nats)"}
    return {"method": method, "measure": {**MEASURES, **uncertainties}.get(measure, measure), "points": int(points)}
