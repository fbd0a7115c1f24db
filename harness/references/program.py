"""The program of a reference worker: it builds a reference once and runs it on request.

It runs in the harness's own interpreter, where torch or scikit-learn are installed. User code is
loaded from the model's folder. Every file that the code opens for reading is noted, so that the
harness can insist that its cache key knows all of them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.domain import encoding
from harness.references import frameworks, precision
from harness.references.tracing import Trace

Reply = tuple[dict[str, Any], list[Any]]
#: Of the names under which references are imported.
PREFIX = "onnx_harness_reference_"


class OpenedFiles:
    """Notes what is opened for reading, by an audit hook that cannot be taken off again."""

    def __init__(self) -> None:
        self._on = False
        self._new: set[str] = set()
        self._seen: set[str] = set()
        self._outside: set[str] = set()
        self._installed = [os.path.realpath(root) for root in _installation()]
        sys.addaudithook(self._hook)

    def __enter__(self) -> OpenedFiles:
        self._on = True
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False

    def outside(self, allowed: list[str]) -> list[str]:
        """Return the opened files that belong neither to `allowed` nor to the installation."""
        fresh, self._new = self._new - self._seen, set()
        self._seen |= fresh
        for path in map(os.path.realpath, fresh):
            if not _is_below(path, self._installed) and Path(path).is_file():
                self._outside.add(path)
        roots = [os.path.realpath(root) for root in allowed]
        return sorted(path for path in self._outside if not _is_below(path, roots))

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on or event != "open":
            return
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        if isinstance(path, str | bytes) and not writes and "w" not in str(mode or ""):
            self._new.add(os.path.join(os.getcwd(), os.fsdecode(path)))  # noqa: PTH109, PTH118 - hot


def _installation() -> list[str]:
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    harness = str(Path(__file__).parents[1])
    return [*folders, harness, sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev", "/etc"]


def _is_below(path: str, roots: list[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


class Reference:
    """The one reference of this worker."""

    def __init__(self) -> None:
        self._opened = OpenedFiles()
        self._built: Any = None
        self._trace: Trace | None = None
        self._kind = ""
        self._methods: dict[str, str] = {}
        self._precise: dict[str, precision.PreciseReference] = {}

    def build(self, request: dict[str, Any], _: list[memoryview]) -> Reply:
        """Build the reference; the reply names files that its declaration leaves out."""
        with self._opened, _telling_where():
            self._built = frameworks.build(request["kind"], self._load(request))
        self._kind, self._methods = request["kind"], request["methods"]
        return {"undeclared": self._opened.outside(request["declared"])}, []

    def run(self, request: dict[str, Any], buffers: list[memoryview]) -> Reply:
        """Run the reference on named feeds: as it was built, or in the floating type `dtype`.

        In another type `below` names the places that computed with fewer bits all the same.
        """
        feeds = encoding.decode_all(list(request["feeds"].items()), buffers)
        dtype = request["dtype"]
        with self._opened, _telling_where():
            outputs, below = self._in(dtype).run(feeds, request["outputs"])
        out: list[Any] = []
        described = [[name, encoding.encode(value, out)] for name, value in outputs]
        undeclared = self._opened.outside(request["declared"])
        return {"outputs": described, "below": below, "undeclared": undeclared}, out

    def _in(self, dtype: str) -> precision.PreciseReference:
        """Return the reference in this floating type, converted on the first call."""
        if dtype not in self._precise:
            self._precise[dtype] = precision.PreciseReference(
                self._kind, self._built, dtype, self._methods
            )
        return self._precise[dtype]

    def export(self, request: dict[str, Any], buffers: list[memoryview]) -> Reply:
        """Export the built reference to the file `target`."""
        feeds = encoding.decode_all(list(request["feeds"].items()), buffers)
        with self._opened, _telling_where():
            frameworks.export(request["kind"], self._built, feeds, request)
        return {"undeclared": self._opened.outside(request["declared"])}, []

    def trace(self, request: dict[str, Any], buffers: list[memoryview]) -> Reply:
        """Return intermediate values of a torch reference by the names of its operators.

        Without `names` only their names, element types and shapes are told.
        """
        feeds = encoding.decode_all(list(request["feeds"].items()), buffers)
        with self._opened, _telling_where():
            if self._trace is None:
                example = encoding.decode_all(list(request["example"].items()), buffers)
                self._trace = Trace(self._built, example, request)
            known, found = self._trace.values(feeds, request["names"])
        out: list[Any] = []
        described = [[name, encoding.encode(value, out)] for name, value in found.items()]
        undeclared = self._opened.outside(request["declared"])
        reply = {"outputs": described, "known": known, "method": self._trace.method}
        return {**reply, "undeclared": undeclared}, out

    def _load(self, request: dict[str, Any]) -> Any:
        """Return what the entry names: a function's result, or the path as it is."""
        folder, entry = Path(request["folder"]), request["entry"]
        file, colon, function = entry.rpartition(":")
        if not colon:
            return folder / entry
        module = load_module(folder / file)
        if not hasattr(module, function):
            msg = f"'{file}' has no function '{function}'"
            raise AttributeError(msg)
        return getattr(module, function)()


@contextlib.contextmanager
def _telling_where() -> Iterator[None]:
    """Note on an exception which line of the user's own file it passed last."""
    try:
        yield
    except Exception as error:  # whatever it was, it goes on as it came
        lines = [
            f"at line {line} of {frame.f_code.co_filename}, in {frame.f_code.co_name}"
            for frame, line in traceback.walk_tb(error.__traceback__)
            if str(frame.f_globals.get("__name__")).startswith(PREFIX)
        ]
        for line in lines[-1:]:
            error.add_note(line)
        raise


def load_module(path: Path) -> Any:
    """Import a file under a name of its own; its folder is importable meanwhile."""
    name = f"{PREFIX}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        msg = f"reference file '{path}' does not exist"
        raise FileNotFoundError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        with contextlib.suppress(ValueError):  # the file may have changed the path itself
            sys.path.remove(str(path.parent))
    return module


_reference = Reference()
HANDLERS = {
    "build": _reference.build,
    "run": _reference.run,
    "export": _reference.export,
    "trace": _reference.trace,
}
