"""Names of `mc_dropout`: "dropout rmse", "bbb setting", "mutual information at 15 degrees", "error %"."""


def row_keys(name, config):
    """Method and measure of regression; measure and angle of the rotated digit."""
    if name == "error %":
        return {"measure": name}
    if " at " in name:
        measure, _, angle = name.partition(" at ")
        return {"measure": measure, "angle": float(angle.removesuffix(" degrees"))}
    method, _, measure = name.partition(" ")
    setting = "dropout rate" if method == "dropout" else "prior scale"
    return {"method": method, "measure": {"rmse": "RMSE", "setting": setting}.get(measure, measure)}


def new_row(row):
    """The number of splits."""
    return row | {"n": len(row["values"])} if "values" in row else row
