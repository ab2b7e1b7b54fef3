"""Names of `bayesian_segnet`: "one pass overall", "50 passes AUROC of entropy for errors"."""

import re

MEASURES = {"overall": "pixel accuracy", "class_average": "class-average accuracy", "mean_iou": "mean IoU"}
PATTERNS = {
    r"AUROC of (\w+) for errors": "AUROC for errors",
    r"(\w+) at boundaries over elsewhere": "mean at boundaries / elsewhere",
}


def row_keys(name, config):
    """The way to predict, the measure, and the uncertainty score that it is about."""
    ((method, rest),) = re.findall(r"^(one pass|weight averaging|\d+ passes) (.*)$", name)
    for pattern, measure in PATTERNS.items():
        if match := re.fullmatch(pattern, rest):
            return {"method": method, "measure": measure, "score": match[1].replace("_", " ")}
    return {"method": method, "measure": MEASURES[rest]}
