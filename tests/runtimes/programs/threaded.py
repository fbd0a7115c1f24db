"""Imported by a fork server, this starts a thread, as some native libraries do."""

from __future__ import annotations

import threading

threading.Thread(target=threading.Event().wait, daemon=True).start()
