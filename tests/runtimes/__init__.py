"""Runtimes: wire, workers, launchers, sessions, registry, probe."""
