"""Variants of a model: where their files come from, and how they are made."""
