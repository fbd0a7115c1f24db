"""Entry point: `python -I .../worker [--path DIR] --program NAME --control-fd N | --serve-fd N`.

The folder is loaded as a package under a name of its own, so that its modules shadow nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import sys

PACKAGE = "onnx_harness_worker"


def load_package() -> None:
    """Make this folder importable as `onnx_harness_worker` and take it off `sys.path`."""
    here = pathlib.Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != here]
    spec = importlib.util.spec_from_file_location(
        PACKAGE, here / "__init__.py", submodule_search_locations=[str(here)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {here}")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    load_package()
    importlib.import_module(f"{PACKAGE}.server").main(sys.argv[1:])
