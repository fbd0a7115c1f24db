"""Tests of `harness.references`."""
