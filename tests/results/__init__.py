"""Tests of `harness.results`."""
