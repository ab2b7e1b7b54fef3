"""Names of `judge_images`: "accuracy %", "FCD rises with noise", "noise 0.1: FCD", "one class: IS"."""


def row_keys(name, config):
    """Measure; the kind and the level of the images."""
    method, colon, measure = name.partition(": ")
    if not colon:
        return {"measure": name} | ({} if name == "accuracy %" else {"judge": JUDGES[config["dataset"]]})
    kind, _, level = method.partition(" ")
    if kind in ("noise", "blur"):
        return {"method": kind, "measure": measure, "level": float(level)}
    return {"method": method, "measure": measure}


JUDGES = {
    "mnist": "mnist-ac5f99cb",
    "fashion_mnist": "fashion_mnist-b27951cb",
    "cifar10": "cifar10-da7f0c1f",
    "digits": "digits-2744ac7d",
}
