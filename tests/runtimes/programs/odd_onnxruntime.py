"""A stand-in for a provider that computes one operator wrongly, put before the real package.

It scales one channel of the weight `WEIGHT` in every model that holds it: whatever graph the node
is part of, this ONNX Runtime computes it differently. Importing it leaves the real package behind.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

REAL = "/nowhere"
WEIGHT = "w20"
CHANNEL, FACTOR = 3, 1.01

del sys.modules["onnxruntime"]
sys.path.insert(0, REAL)
real: Any = importlib.import_module("onnxruntime")


def altered(model: Any) -> bytes:
    """Return the model with the weight as this provider sees it."""
    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    proto = onnx.ModelProto.FromString(data)
    for tensor in proto.graph.initializer:
        if tensor.name == WEIGHT:
            values = numpy_helper.to_array(tensor).copy()
            values[:, CHANNEL] *= np.float32(FACTOR)
            tensor.CopyFrom(numpy_helper.from_array(values, WEIGHT))
    result: bytes = proto.SerializeToString()
    return result


class InferenceSession(real.InferenceSession):  # type: ignore[misc]
    """Opens what the model is to this provider."""

    def __init__(self, model: Any, *rest: Any, **named: Any) -> None:
        super().__init__(altered(model), *rest, **named)


real.InferenceSession = InferenceSession
