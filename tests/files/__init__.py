"""Tests of harness.files."""
