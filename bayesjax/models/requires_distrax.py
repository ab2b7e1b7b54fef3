"""Imports distrax for the models that return its distributions, or says in one line why it cannot be imported.

distrax depends on nightly builds of another library, which may not fit the installed version of JAX. The rest of
bayesjax works without it, also with distributions of NumPyro or distreqx (`distributions.py`).
"""

__all__ = ["distrax"]

try:
    import distrax
except Exception as error:  # an incompatible dependency may raise any exception
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    raise ImportError(
        f"models.vae, models.flows and models.boltzmann need distrax, which cannot be imported ({reason}); the rest of "
        "bayesjax works without it, with distributions of NumPyro or distreqx"
    ) from None
