"""Tests of `harness.reports`."""
