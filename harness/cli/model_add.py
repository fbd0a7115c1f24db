"""`onnx-harness model add`: a model file becomes a folder with a spec that runs."""

from __future__ import annotations

import ast
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.output import plural, saying
from harness.cli.project import ModelsFolder, open_project
from harness.cli.trials import Trial, try_drafts
from harness.domain.model_facts import ModelFacts
from harness.errors import ModelFileError, UsageProblem
from harness.files import drafts, sources
from harness.files.cache import hash_file
from harness.files.drafts import Draft, ReferenceDraft
from harness.files.models import SPEC_FILE
from harness.runtimes.inspectors import Inspector
from harness.runtimes.launchers import LocalLauncher
"""
"""
