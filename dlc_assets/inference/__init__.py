"""From recordings and a model version to pose tables: which model analyses what, and doing it."""
