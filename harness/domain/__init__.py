"""Values and decisions: frozen dataclasses and pure functions on numpy arrays, no effects."""
