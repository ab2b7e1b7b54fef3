"""Names of `density_estimation`: "quantile normal p_value", "linear 5 mean", "moons spline KL"."""

MEASURES = {
    "difference": "largest difference of log densities",
    "p_value": "KS p-value",
    "mean": "largest z of the mean",
    "covariance": "largest z of the covariance",
    "log-likelihood": "log-likelihood (nats)",
    "KL": "KL (nats)",
    "JS": "JS (nats)",
    "p-value of MMD": "MMD p-value",
    "inverse": "largest error of the inverse",
}


def row_keys(name, config):
    """Method, measure, and the distribution, the number of dimensions or the target."""
    first, second, measure = name.split(" ", 2)
    measure = MEASURES.get(measure, measure)
    if first == "quantile":
        return {"method": "quantile function", "measure": measure, "distribution": second}
    if first == "linear":
        return {"method": "linear map", "measure": measure, "dimensions": int(second)}
    return {"method": second, "measure": measure, "target": first}
