"""The checkout's own pytest settings; the plugin itself is loaded by its entry point."""

from __future__ import annotations

pytest_plugins = ["harness.plugin"]
