"""Projects that the tests of the plugin share."""

from __future__ import annotations

import numpy as np
import pytest

from harness.testing import MiniProject, file_spec, identity_model, linear_model

ONE = np.ones((2, 3), np.float32)


@pytest.fixture
def tiny(project: MiniProject) -> MiniProject:
    """Return a project with one good model, `tiny`; scope function."""
    project.add_model("tiny", file_spec(), {"model.onnx": linear_model().SerializeToString()})
    return project


@pytest.fixture
def mixed(tiny: MiniProject) -> MiniProject:
    """Return a project whose models pass, fail, end as ERROR and are skipped; scope function.

    `wrong` has a recorded output that is not its own, `bad` a broken spec, `lacking` a package
    that nobody has, and `elsewhere` runs on no CPU.
    """
    sets = [((ONE,), (ONE,)), ((ONE,), (2 * ONE,))]
    tiny.add_zoo_model("wrong", identity_model(shape=("n", 3)), sets)
    tiny.add_model("bad", "schema_version = 1\n")
    model = {"model.onnx": linear_model().SerializeToString()}
    requires = 'requires = ["no-such-distribution"]\n'
    tiny.add_model("lacking", requires + file_spec(), model)
    providers = 'cpu = { not_applicable = "needs a GPU" }'
    tiny.add_model("elsewhere", file_spec(providers=providers), model)
    return tiny
