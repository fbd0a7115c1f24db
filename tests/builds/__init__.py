"""Tests of `harness.builds`."""
