"""What `onnx-harness doctor` finds: every provider of every runtime, really opened in a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.cli.project import Project
from harness.domain.findings import Finding, from_error
from harness.domain.placement import Placement
from harness.domain.project import ProjectSettings
from harness.domain.providers import Provider, find
from harness.errors import HarnessError, UsageProblem
from harness.runtimes.launchers import Launcher
from harness.runtimes.probe import check_provider, missing_library
from harness.runtimes.registry import Resolved, Runtime, Runtimes

"""
"""
