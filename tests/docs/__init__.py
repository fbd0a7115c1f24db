"""Tests that keep README and docs true."""
