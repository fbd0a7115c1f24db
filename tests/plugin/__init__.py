"""Tests of harness.plugin: whole pytest runs in mini projects."""
