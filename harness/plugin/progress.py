"""A live line for work that takes long, on a terminal only."""

from __future__ import annotations

import sys

import pytest

_SAVE, _RESTORE, _CLEAR = "\x1b7", "\x1b8", "\x1b[K"


class Progress:
    """Shows one text behind pytest's dots and takes it away again."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def say(self, text: str) -> None:
        """Show `text`, or nothing if it is empty."""
        plugins = self._config.pluginmanager
        if plugins.get_plugin("terminalreporter") is None:
            return  # an xdist worker has no terminal
        writer = self._config.get_terminal_writer()
        if not writer.hasmarkup or self._config.getoption("verbose") < 0:
            return
        room = max(10, writer.fullwidth - writer.width_of_current_line - 3)
        shown = f" [{text[:room]}]" if text else ""
        capture = plugins.get_plugin("capturemanager")
        if capture is None:
            _write(shown)
            return
        with capture.global_and_fixture_disabled():
            _write(shown)


def _write(shown: str) -> None:
    """Write past pytest's writer, which would count the text into the width of its line."""
    sys.stdout.write(f"{_SAVE}{_CLEAR}{shown}{_RESTORE}")
    sys.stdout.flush()
