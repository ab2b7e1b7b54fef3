"""Code that at least two experiments use."""
