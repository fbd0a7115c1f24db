"""The program of an inference worker: it opens one ONNX Runtime session and runs it.

Requests: `facts`, `libraries`, `open`, `run`, `profile`, and for latency `bind`, `time`,
`timed_outputs`, `memory`, `crowd`, `cycle`. Both of ONNX Runtime's own fallbacks are off: the retry
at construction (`enable_fallback=0`) and the silent re-creation of the session on other providers
in the middle of a run (`disable_fallback`).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import glob
import importlib
import importlib.util
import os
import re
import time
from typing import Any

from . import layout, profiles, serving, values
from .serve import Refused
from .timing import Stopwatch, open_schedule, own_ns, peak_bytes, resident_bytes, waited_ns

#: Tells where the external data of a model lies that is given as bytes.
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"
#: In the order in which they need each other.
TENSORRT_LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
#: One Identity node, opset 13, from float `x` to float `y`: what `onnx.helper` makes of it.
TINY_MODEL = bytes.fromhex(
    "080712003a370a100a017812017922084964656e746974791201775a0f0a0178"
    "120a0a08080112040a020801620f0a0179120a0a08080112040a02080142040a00100d"
)
LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}

#: How ONNX Runtime logs that an optimiser changed the graph.
OPTIMIZER = re.compile(r"GraphTransformer (\S+) modified: 1")

Reply = tuple[dict[str, Any], list[Any]]


class Inference:
    """The one session of this worker."""

    def __init__(self) -> None:
        self._ort: Any = None
        self._session: Any = None
        self._request: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._gives_foreign = False
        self._stopwatch: Any = None
        self._peak_before = 0
        self._schedule = -1

    def facts(self, request: dict[str, Any], _: list[memoryview]) -> Reply:
        """Tell what this build of ONNX Runtime has, after loading what was asked for."""
        ort = self._import(request)
        devices = []
        if hasattr(ort, "get_ep_devices"):
            devices = [[device.ep_name, device.ep_vendor] for device in ort.get_ep_devices()]
        return {
            "version": ort.__version__,
            "build": _build_info(ort),
            "available": ort.get_available_providers(),
            "devices": devices,
        }, []

    def libraries(self, request: dict[str, Any], _: list[memoryview]) -> Reply:
        """Tell each library of custom operators: a package's version, or the file that it is."""
        found = [(_version(name), _library(name)) for name in request["custom_ops"]]
        return {"libraries": [[version, file] for version, file in found]}, []

    def open(self, request: dict[str, Any], _: list[memoryview]) -> Reply:
        """Open the session and tell what it really got."""
        if request.get("cores"):
            os.sched_setaffinity(0, request["cores"])  # threads of the session inherit it
        ort = self._import(request)
        if request.get("layout") is not None:
            layout.scatter(request["layout"])
        self._peak_before = peak_bytes()
        self._schedule, logged = open_schedule(), _log_size()
        started, waited = time.perf_counter_ns(), waited_ns(self._schedule)
        session = self._made(request)
        self._keep(session)
        self._request = request
        took = time.perf_counter_ns() - started
        return {
            "load_ns": own_ns(took, waited_ns(self._schedule) - waited),
            "version": ort.__version__,
            "providers": session.get_providers(),
            "provider_options": session.get_provider_options(),
            "inputs": [[node.name, node.type, node.shape] for node in self._inputs],
            "outputs": [[node.name, node.type, node.shape] for node in self._outputs],
            "placement": _placement(session),
            "optimizers": _optimizers(logged) if request.get("optimized_file") else [],
            "pid": os.getpid(),
        }, []

    def run(self, request: dict[str, Any], buffers: list[memoryview]) -> Reply:
        """Run once; `feeds` are wire values by input name, outputs come in the model's order."""
        feeds, names = request["feeds"], [node.name for node in self._outputs]
        out: list[Any] = []
        if self._gives_foreign:
            given = {
                name: values.to_ort_value(self._ort, value, buffers)
                for name, value in feeds.items()
            }
            started = time.perf_counter_ns()
            results = self._session.run_with_ort_values(names, given)
            elapsed = time.perf_counter_ns() - started
            described = [values.from_ort_value(result, out) for result in results]
        else:
            given = {
                name: values.to_feed(self._ort, value, buffers) for name, value in feeds.items()
            }
            started = time.perf_counter_ns()
            results = self._session.run(names, given)
            elapsed = time.perf_counter_ns() - started
            described = [
                values.from_numpy(result, node.type, out)
                for result, node in zip(results, self._outputs)
            ]
        outputs = [[name, value] for name, value in zip(names, described)]
        return {
            "outputs": outputs,
            "run_ns": elapsed,
            "providers": self._session.get_providers(),
        }, out

    def bind(self, request: dict[str, Any], buffers: list[memoryview]) -> Reply:
        """Bind sets of inputs for timed runs."""
        device = request.get("device")
        self._stopwatch = Stopwatch(
            self._ort,
            self._session,
            request["sets"],
            buffers,
            schedule=self._schedule,
            device=tuple(device) if device else None,
        )
        return {"first_ns": self._stopwatch.first_ns}, []

    def timed(self, request: dict[str, Any], _: list[memoryview]) -> Reply:
        """Time a slot of calls; the buffers hold ns as int64: wall, and waiting for a core."""
        return {}, list(self._stopwatch.slot(request["calls"], request["drops"]))

    def timed_outputs(self, request: dict[str, Any], _: list[memoryview]) -> Reply:
        """Give what the last timed run of a set left in its outputs."""
        out: list[Any] = []
        return {"outputs": self._stopwatch.outputs(request["set"], out)}, out

    def memory(self, _: dict[str, Any], __: list[memoryview]) -> Reply:
        """Tell how far resident memory has grown at most since before the session."""
        return {"grown_bytes": peak_bytes() - self._peak_before}, []

    def crowd(self, request: dict[str, Any], buffers: list[memoryview]) -> Reply:
        """Let callers run sessions at once; the buffer holds the time of every call, ns.

        The first of `sessions` is this worker's; the others are made like it, and live as long as
        the callers.
        """
        others = [self._made(self._request) for _ in range(request["sessions"] - 1)]
        sessions = [self._session, *others]
        stopwatches = [
            Stopwatch(
                self._ort, sessions[number % len(sessions)], request["sets"], buffers, schedule=-1
            )
            for number in range(request["callers"])
        ]
        calls, callers = serving.crowd(stopwatches, request["window_ns"])
        return {"callers": callers}, [calls]

    def cycle(self, request: dict[str, Any], buffers: list[memoryview]) -> Reply:
        """Make a session like this worker's, run it and delete it; tell resident memory after."""
        Stopwatch(self._ort, self._made(self._request), request["sets"], buffers, schedule=-1)
        gc.collect()
        return {"resident_bytes": resident_bytes()}, []

    def profile(self, request: dict[str, Any], _: list[memoryview]) -> Reply:
        """End profiling and return the rows of `profiles.summary` over the runs that count.

        Without their numbers, over all: which nodes ran is known also from a run cut short.
        """
        counted = request.get("counted")
        events = profiles.read(self._session.end_profiling())
        found = profiles.runs(events, whole=counted is not None)
        counted = range(len(found)) if counted is None else counted
        kept = [found[number] for number in counted if number < len(found)]
        if not kept:
            raise Refused("run.failed", "ONNX Runtime's profiler shows no whole run that counts")
        return {"nodes": profiles.summary(kept), "runs": len(kept)}, []

    def _import(self, request: dict[str, Any]) -> Any:
        """Import ONNX Runtime, then the libraries and plugin that the request names."""
        if self._ort is None:
            self._ort = importlib.import_module("onnxruntime")
            if request.get("preload"):
                _preload(self._ort)
            plugin = request.get("plugin")
            if plugin:
                self._ort.register_execution_provider_library(
                    plugin["provider"], _library(plugin["library"])
                )
        return self._ort

    def _made(self, request: dict[str, Any]) -> Any:
        """Return a new session."""
        ort, options = self._ort, self._options(request)
        providers = [(name, settings) for name, settings in request["providers"]]
        model = _given_model(request)
        if request.get("plugin"):
            _add_plugin(ort, options, request["plugin"])
            session = ort.InferenceSession(model, options)
        else:
            session = ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
        session.disable_fallback()
        return session

    def _options(self, request: dict[str, Any]) -> Any:
        ort = self._ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = request["threads"]
        options.inter_op_num_threads = 1
        options.graph_optimization_level = _level(ort, request["optimization"])
        if request.get("profile_prefix"):
            options.enable_profiling = True
            options.profile_file_prefix = request["profile_prefix"]
        if request.get("optimized_file"):
            options.optimized_model_filepath = request["optimized_file"]
            options.log_severity_level = 1  # at this level it names every optimiser
        if hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
            options.add_session_config_entry(RECORD_PLACEMENT, "1")
        for key, value in request["config"].items():
            options.add_session_config_entry(key, value)
        for library in request["custom_ops"]:
            options.register_custom_ops_library(_library(library))
        return options

    def _keep(self, session: Any) -> None:
        self._session = session
        self._inputs, self._outputs = session.get_inputs(), session.get_outputs()
        self._gives_foreign = any(values.is_foreign(node.type) for node in self._outputs)


def warm_up() -> None:
    """Open and run a tiny model, so that workers forked after it are quick.

    ONNX Runtime makes its table of kernels for the first session, in 4 of the 6 ms that a tiny
    model takes, and children inherit it. One thread is asked for, so that none is left behind: the
    fork server would not fork then.
    """
    tiny = {"model": TINY_MODEL, "providers": [["CPUExecutionProvider", {}]], "threads": 1}
    one = {"t": "tensor", "dtype": 1, "shape": [1], "b": 0}
    trial = Inference()
    trial.open({**tiny, "optimization": "all", "custom_ops": [], "config": {}}, [])
    trial.run({"feeds": {"x": one}}, [memoryview(bytes(4))])


def _given_model(request: dict[str, Any]) -> Any:
    """Return the model's path; its bytes if its external data lies in another folder."""
    path = request["model"]
    if EXTERNAL_FOLDER not in request["config"]:
        return path
    with open(path, "rb") as file:
        return file.read()


def _level(ort: Any, name: str) -> Any:
    level = getattr(ort.GraphOptimizationLevel, LEVELS[name], None)
    if level is None:
        raise Refused("session.option", f"this ONNX Runtime has no optimisation level '{name}'")
    return level


def _library(name: str) -> str:
    """Return the file of a library: a path as it is, else a package's `get_library_path()`."""
    if os.path.exists(name):
        return name
    if "/" in name:
        raise Refused("session.option", f"Library '{name}' does not exist")
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        message = f"this runtime has neither a file nor a package '{name}': {error}"
        raise Refused("package.missing", message) from None
    for function in ("get_library_path", "get_ep_library_path", "library_path"):
        if hasattr(package, function):
            return str(getattr(package, function)())
    raise Refused("package.missing", f"package '{name}' does not tell its library's path")


def _version(name: str) -> str:
    """Return the version of a library's package; empty for a file, and where none is told."""
    from importlib import metadata  # 50 ms, and next to no model needs it

    if os.path.exists(name):
        return ""
    for distribution in (name, name.replace("_", "-")):
        with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
            return metadata.version(distribution)
    return ""


def _preload(ort: Any) -> None:
    """Load the libraries that pip installed: CUDA and cuDNN, then TensorRT where it is there.

    A library that is missing is not an error here: opening the session tells which one it needs.
    """
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    package = importlib.util.find_spec("tensorrt_libs")
    for folder in (package.submodule_search_locations or []) if package else []:
        for name in TENSORRT_LIBRARIES:
            for path in sorted(glob.glob(os.path.join(folder, f"{name}.so*"))):
                with contextlib.suppress(OSError):
                    ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)


def _add_plugin(ort: Any, options: Any, plugin: dict[str, Any]) -> None:
    devices = [device for device in ort.get_ep_devices() if device.ep_name == plugin["provider"]]
    if not devices:
        raise Refused(
            "provider.no-device",
            f"plugin library '{plugin['library']}' was registered but offers no device",
        )
    options.add_provider_for_devices(devices[:1], plugin["options"])


def _placement(session: Any) -> list[Any] | None:
    """Return [provider, [[name, domain, operator], ...]] per subgraph; None if not recorded."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    return [
        [part.ep_name, [[node.name, node.domain, node.op_type] for node in part.get_nodes()]]
        for part in session.get_provider_graph_assignment_info()
    ]


def _log_size() -> int:
    try:
        return os.fstat(2).st_size
    except OSError:
        return 0


def _optimizers(start: int) -> list[str]:
    """Return the optimisers that changed the graph, as ONNX Runtime's own log names them.

    Standard error is the worker's log file, which it may read as well as write.
    """
    try:
        text = os.pread(2, max(0, _log_size() - start), start).decode(errors="replace")
    except OSError:
        return []
    return list(dict.fromkeys(OPTIMIZER.findall(text)))


def _build_info(ort: Any) -> str:
    capi = getattr(ort, "get_build_info", None)
    return str(capi()) if capi else ""


_inference = Inference()
HANDLERS = {
    "facts": _inference.facts,
    "libraries": _inference.libraries,
    "open": _inference.open,
    "run": _inference.run,
    "bind": _inference.bind,
    "time": _inference.timed,
    "timed_outputs": _inference.timed_outputs,
    "memory": _inference.memory,
    "profile": _inference.profile,
    "crowd": _inference.crowd,
    "cycle": _inference.cycle,
}
