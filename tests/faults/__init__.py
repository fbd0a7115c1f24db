"""Faults: broken models, specs, references and sessions, and what the gate says of each."""
