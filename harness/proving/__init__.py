"""The gate proves itself: mutants of a model, and what the model's own suite makes of them."""
