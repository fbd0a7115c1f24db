"""The release gate for ONNX models; see README.md and docs/."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
