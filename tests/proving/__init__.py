"""Tests of mutants and of what is made of them."""
