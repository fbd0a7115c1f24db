"""Sessions: every kind of value that ONNX Runtime takes crosses the border and comes back."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.domain.dtypes import DType
from harness.domain.session import SessionConfig
from harness.domain.values import Array, Value
from harness.errors import EnvironmentProblem, RunFailed, WorkerDied
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import Runtime
from harness.runtimes.sessions import Session, open_session, profile_placement
from harness.testing import IR_VERSION, linear_model, node_model, tensor_info
from tests.faults.bad_sessions import loop_model

OWN = Runtime(name="own", python=sys.executable, source="own")
CPU = SessionConfig(provider="CPUExecutionProvider")
AS_WRITTEN = SessionConfig(provider="CPUExecutionProvider", optimization="disabled")
ML = "ai.onnx.ml"
#: The first operator set that knows all element types.
NEWEST_OPSET = 25
#: What ONNX Runtime has no kernel or no type for.
COMPLEX = {DType.COMPLEX64, DType.COMPLEX128}
NO_CAST = {*COMPLEX, DType.STRING, DType.FLOAT4E2M1}

FLOATS = np.array([0, 1, 2, 3, 4], np.float32)
FLOAT = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
INT64 = helper.make_tensor_type_proto(TensorProto.INT64, None)
TEXT = helper.make_tensor_type_proto(TensorProto.STRING, None)
BFLOAT16 = helper.make_tensor_type_proto(TensorProto.BFLOAT16, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """Writes models and opens them."""

    launcher: LocalLauncher
    folder: Path

    def open(self, model: onnx.ModelProto, config: SessionConfig = AS_WRITTEN) -> Session:
        """Return a session of the model in a forked worker."""
        path = self.folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return open_session(self.launcher, OWN, config, path, fork=True, limit_s=60)

    def run(self, model: onnx.ModelProto, feeds: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return what one run of the model gives."""
        with self.open(model) as session:
            return session.run(feeds, limit_s=60).outputs


@pytest.fixture
def opener(launcher: LocalLauncher, tmp_path: Path) -> Opener:
    """Return what opens models; scope function, on the shared launcher."""
    return Opener(launcher=launcher, folder=tmp_path)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, onnx.TypeProto],
    outputs: Mapping[str, onnx.TypeProto],
) -> onnx.ModelProto:
    """Return a model of these nodes and typed ports."""
    given = [helper.make_value_info(name, kind) for name, kind in inputs.items()]
    wanted = [helper.make_value_info(name, kind) for name, kind in outputs.items()]
    graph = helper.make_graph(list(nodes), "graph", given, wanted)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(ML, 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def newest(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """Return a model in the first operator set that knows all element types."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    opset = [helper.make_opsetid("", NEWEST_OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)


def identity(kind: onnx.TypeProto) -> onnx.ModelProto:
    """Return `y = x` for any type."""
    return model_of([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind})


def sequence(kind: onnx.TypeProto) -> onnx.TypeProto:
    """Return the type of a sequence of this kind."""
    return helper.make_sequence_type_proto(kind)


def optional(kind: onnx.TypeProto) -> onnx.TypeProto:
    """Return the type of an optional of this kind."""
    return helper.make_optional_type_proto(kind)


def mapping(key: int, kind: onnx.TypeProto) -> onnx.TypeProto:
    """Return the type of a map."""
    return onnx.TypeProto(map_type=onnx.TypeProto.Map(key_type=key, value_type=kind))


def plain(value: Value) -> Any:
    """Return a value in a form that can be compared by `==`, with its types."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if value is None:
        return None
    assert isinstance(value, np.ndarray)
    return value.dtype.name, value.shape, value.tolist()


def values_of(dtype: DType) -> Array:
    """Return some values of an element type, its odd ones included."""
    match dtype:
        case DType.STRING:
            return np.array(["a", "", "zwölf", "\0", "x" * 100], dtype=object)
        case DType.BOOL:
            return np.array([True, False, True])
        case DType.FLOAT8E8M0:
            return np.array([1, 2, 4, 0.5], np.float32).astype(dtype.numpy)
        case _ if dtype.is_integer and not dtype.startswith("u"):
            return np.array([0, 1, -1, -2, 1]).astype(dtype.numpy)
        case _:
            return np.array([0, 1, 2, 3, 1]).astype(dtype.numpy)


# element types


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if dtype not in COMPLEX])
def test_element_type_passes_through(opener: Opener, dtype: DType) -> None:
    """Every element type goes in and comes out unchanged, also those that numpy lacks."""
    x = tensor_info("x", dtype, ["n"])
    node = helper.make_node("Neg", ["w"], ["z"])  # a graph without any node proves nothing
    ports = [x, tensor_info("w", shape=["n"])], [x, tensor_info("z", shape=["n"])]
    outputs = opener.run(newest([node], *ports), {"x": values_of(dtype), "w": FLOATS})
    assert plain(outputs["x"]) == plain(values_of(dtype))


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if dtype not in NO_CAST])
@pytest.mark.parametrize("way", ["in", "out"])
def test_element_type_is_read_as_onnxruntime_means_it(
    opener: Opener, dtype: DType, way: str
) -> None:
    """ONNX Runtime's own Cast from and to float32 agrees with the values on this side."""
    here, floats = values_of(dtype), values_of(dtype).astype(np.float32)
    given, to = (here, DType.FLOAT32) if way == "in" else (floats, dtype)
    of_x = dtype if way == "in" else DType.FLOAT32
    node = helper.make_node("Cast", ["x"], ["y"], to=to.onnx_number)
    model = newest([node], [tensor_info("x", of_x, ["n"])], [tensor_info("y", to, ["n"])])
    expected = floats if way == "in" else here
    assert plain(opener.run(model, {"x": given})["y"]) == plain(expected)


@pytest.mark.parametrize("dtype", [DType.INT4, DType.UINT4, DType.INT2, DType.UINT2])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 9])
def test_packed_types_of_any_size(opener: Opener, dtype: DType, size: int) -> None:
    """Elements smaller than a byte are packed and unpacked, also where a byte is half full."""
    x = np.resize(values_of(dtype), size)
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    model = newest([node], [tensor_info("x", dtype, ["n"])], [tensor_info("y", shape=["n"])])
    assert plain(opener.run(model, {"x": x})["y"]) == plain(x.astype(np.float32))


@pytest.mark.parametrize("dtype", sorted(COMPLEX))
def test_type_that_onnxruntime_lacks_is_refused(opener: Opener, dtype: DType) -> None:
    """A type without any support ends in a refusal that names it."""
    with pytest.raises(RunFailed) as caught:
        opener.open(node_model("Identity", dtype=dtype))
    assert caught.value.what == (
        f"Fail while opening a session: MLDataType for: tensor({dtype}) is not currently "
        "registered or supported"
    )


# shapes


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0, 2), (1, 1, 1, 1), (2, 3)])
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16, DType.STRING, DType.BOOL])
def test_shapes_stay(opener: Opener, dtype: DType, shape: tuple[int, ...]) -> None:
    """Scalars stay scalars and empty tensors keep their shape, in every family of types."""
    x = np.resize(values_of(dtype), shape).astype(dtype.numpy)
    kind = helper.make_tensor_type_proto(dtype.onnx_number, None)
    assert plain(opener.run(identity(kind), {"x": x})["y"]) == plain(x)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16, DType.STRING])
def test_large_tensors(opener: Opener, dtype: DType) -> None:
    """Tensors of several megabytes go through shared memory and are the same afterwards."""
    x = np.resize(values_of(dtype), 2**20)
    kind = helper.make_tensor_type_proto(dtype.onnx_number, None)
    y = opener.run(identity(kind), {"x": x})["y"]
    assert isinstance(y, np.ndarray)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    assert (y == x).all()


def test_order_of_memory_does_not_matter(opener: Opener) -> None:
    """Transposed, strided and big-endian arrays arrive as the numbers that they are."""
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    model = identity(FLOAT)
    for x in (base.T, base[::2, ::-1], base.astype(">f4"), np.asfortranarray(base)):
        assert plain(opener.run(model, {"x": x})["y"]) == plain(x.astype(np.float32))


# sequences, maps, optionals


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (sequence(FLOAT), (FLOATS, FLOATS[:2], FLOATS[:0])),
        (sequence(FLOAT), ()),
        (sequence(INT64), (np.array([1, -1]),)),
        (sequence(TEXT), (np.array(["a", "é"], dtype=object), np.array([""], dtype=object))),
        (optional(FLOAT), FLOATS),
        (optional(FLOAT), None),
        (optional(TEXT), np.array(["a"], dtype=object)),
        (optional(sequence(FLOAT)), (FLOATS,)),
        (optional(sequence(FLOAT)), None),
    ],
    ids=[
        "sequence", "empty-sequence", "of-integers", "of-text", "optional", "empty-optional",
        "optional-text", "optional-sequence", "empty-optional-sequence",
    ],
)  # fmt: skip
def test_nested_value_passes_through(opener: Opener, kind: onnx.TypeProto, value: Value) -> None:
    """Sequences and optionals go in and come out, full and empty."""
    assert plain(opener.run(identity(kind), {"x": value})["y"]) == plain(value)


def test_optional_that_the_model_makes(opener: Opener) -> None:
    """An empty optional beside a full one is told apart."""
    nodes = [
        helper.make_node("Optional", [], ["none"], type=FLOAT),
        helper.make_node("Optional", ["x"], ["some"]),
    ]
    kinds = {"none": optional(FLOAT), "some": optional(FLOAT)}
    outputs = opener.run(model_of(nodes, {"x": FLOAT}, kinds), {"x": FLOATS})
    assert outputs["none"] is None
    assert plain(outputs["some"]) == plain(FLOATS)


@pytest.mark.parametrize(
    ("key", "labels", "names"),
    [
        (TensorProto.INT64, {"classlabels_int64s": [3, -5]}, (3, -5)),
        (TensorProto.STRING, {"classlabels_strings": ["a", "é"]}, ("a", "é")),
    ],
    ids=["integers", "text"],
)
@pytest.mark.parametrize("rows", [0, 2])
def test_sequence_of_maps_comes_out(
    opener: Opener, key: int, labels: dict[str, Any], names: tuple[int | str, ...], rows: int
) -> None:
    """What scikit-learn's converters give: a map from label to probability per row."""
    node = helper.make_node("ZipMap", ["x"], ["y"], domain=ML, **labels)
    model = model_of([node], {"x": FLOAT}, {"y": sequence(mapping(key, FLOAT))})
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    expected = [
        {name: ("float32", (), p) for name, p in zip(names, row, strict=True)} for row in x.tolist()
    ]
    assert plain(opener.run(model, {"x": x})["y"]) == expected


def test_map_goes_in(opener: Opener) -> None:
    """A map from number to number is taken where the model declares one."""
    node = helper.make_node(
        "CastMap", ["x"], ["y"], domain=ML, cast_to="TO_FLOAT", map_form="DENSE"
    )
    model = model_of([node], {"x": mapping(TensorProto.INT64, FLOAT)}, {"y": FLOAT})
    value: Value = {0: np.array(3, np.float32), 2: np.array(4, np.float32)}
    assert plain(opener.run(model, {"x": value})["y"]) == ("float32", (1, 2), [[3, 4]])


def test_foreign_type_beside_text(opener: Opener) -> None:
    """A model may take types that numpy lacks beside text and sequences..."""
    nodes = [
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["s"], ["t"]),
    ]
    model = model_of(nodes, {"x": BFLOAT16, "s": TEXT}, {"y": FLOAT, "t": TEXT})
    text = values_of(DType.STRING)
    outputs = opener.run(model, {"x": FLOATS.astype(DType.BFLOAT16.numpy), "s": text})
    assert plain(outputs["y"]) == plain(FLOATS)
    assert plain(outputs["t"]) == plain(text)


@pytest.mark.parametrize(
    ("kind", "value", "does"),
    [(TEXT, np.array(["a"], dtype=object), "takes"), (sequence(FLOAT), (FLOATS,), "takes")],
    ids=["text", "sequence"],
)
def test_foreign_output_beside_other_kinds_is_refused(
    opener: Opener, kind: onnx.TypeProto, value: Value, does: str
) -> None:
    """...but ONNX Runtime's Python interface cannot give them so: refused, never guessed."""
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("Identity", ["s"], ["t"]),
    ]
    model = model_of(nodes, {"x": BFLOAT16, "s": kind}, {"y": BFLOAT16, "t": kind})
    x = FLOATS.astype(DType.BFLOAT16.numpy)
    with pytest.raises(RunFailed) as caught:
        opener.run(model, {"x": x, "s": value})
    assert caught.value.what == (
        f"ONNX Runtime's Python interface {does} no sequence, map, optional or text in a model "
        "that also gives element types which numpy lacks (running the model)"
    )
    assert caught.value.code == "value.unsupported"


# facts, limits, failures


def test_facts_of_a_session(opener: Opener) -> None:
    """Providers, ports and places of nodes are as the session itself tells them."""
    with opener.open(linear_model(), CPU) as session:
        facts = session.facts
    assert facts.providers == ("CPUExecutionProvider",)
    assert [(port.name, port.type, port.shape) for port in facts.inputs] == [
        ("x", "tensor(float)", ("batch", 3))
    ]
    assert facts.placement is not None
    assert [node.op for node in facts.placement["CPUExecutionProvider"]] != []


def test_placement_by_profiling(opener: Opener) -> None:
    """Where assignments are not recorded, one profiled run tells the same nodes."""
    path = opener.folder / "model.onnx"
    path.write_bytes(linear_model().SerializeToString())
    feeds = {"x": np.ones((1, 3), np.float32)}
    nodes = profile_placement(opener.launcher, OWN, AS_WRITTEN, path, feeds, fork=True, limit_s=60)
    assert sorted(node.op for node in nodes["CPUExecutionProvider"]) == ["Add", "MatMul"]


def test_missing_feed(opener: Opener) -> None:
    """A run without an input is refused, and the session goes on."""
    with opener.open(linear_model()) as session:
        with pytest.raises(RunFailed, match="Required inputs"):
            session.run({}, limit_s=60)
        assert session.run({"x": np.ones((1, 3), np.float32)}, limit_s=60).run_ms > 0


def test_run_that_takes_too_long(opener: Opener) -> None:
    """The limit ends the worker, not the harness."""
    with opener.open(loop_model()) as session:
        with pytest.raises(WorkerDied, match=r"no answer within 0\.3 s"):
            session.run({"x": FLOATS[:3]}, limit_s=0.3)
        assert not session.alive


def test_session_that_is_refused_leaves_nothing(opener: Opener) -> None:
    """After a refusal no worker is left: the descriptors of this process are as before."""

    def refuse() -> int:
        with pytest.raises(RunFailed):
            opener.open(node_model("Frobnicate"))
        return len(list(Path("/proc/self/fd").iterdir()))

    assert refuse() == refuse()


def test_runtime_that_is_broken(opener: Opener) -> None:
    """A runtime without its interpreter is told before anything else."""
    gone = Runtime(name="gone", python="/no/python", source="settings")
    with pytest.raises(EnvironmentProblem, match="cannot be started"):
        open_session(opener.launcher, gone, CPU, Path("model.onnx"), fork=True, limit_s=60)


@pytest.fixture
def lying(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Session, dict[str, Any]]]:
    """Yield a session whose worker answers `run` with a reply that the test fills."""
    reply: dict[str, Any] = {"providers": ["CPUExecutionProvider"], "run_ns": 1}
    with opener.open(linear_model()) as session:
        monkeypatch.setattr(
            session._worker, "request", lambda *_, **__: (reply, [memoryview(b"ab")])
        )
        yield session, reply


def test_fallback_in_the_middle_of_a_run(lying: tuple[Session, dict[str, Any]]) -> None:
    """A session that changed its providers is no longer the one that was judged."""
    session, reply = lying
    reply["providers"] = ["CPUExecutionProvider", "AzureExecutionProvider"]
    with pytest.raises(RunFailed) as caught:
        session.run({}, limit_s=1)
    assert caught.value.code == "session.fallback"


@pytest.mark.parametrize(
    "outputs",
    [
        [["y", {"t": "tensor", "dtype": 1, "shape": [1], "b": 0}]],
        [["y", {"t": "tensor", "dtype": 1, "shape": [1], "b": 7}]],
        [["y", {"t": "tensor", "dtype": 77, "shape": [1], "b": 0}]],
        [["y", {"t": "tensor", "dtype": 3, "shape": [-2], "b": 0}]],
        [["y", {"t": "no such kind"}]],
        [["y"]],
        3,
    ],
    ids=["too-short", "no-buffer", "no-type", "negative", "no-kind", "no-value", "no-list"],
)  # fmt: skip
def test_reply_that_makes_no_sense(lying: tuple[Session, dict[str, Any]], outputs: Any) -> None:
    """What a worker says is checked before it becomes an array."""
    session, reply = lying
    reply["outputs"] = outputs
    with pytest.raises(
        RunFailed, match="Worker broke the protocol while running the model"
    ) as caught:
        session.run({}, limit_s=1)
    assert caught.value.code == "worker.protocol"
