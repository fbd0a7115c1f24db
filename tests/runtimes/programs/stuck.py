"""Imported by a fork server, this never comes to an end."""

from __future__ import annotations

import time

time.sleep(600)
