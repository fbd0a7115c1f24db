"""Build `model.onnx` and the case with speech; run by hand, the results are committed.

    python models/log-mel/make_model.py

Window and bands come from the reference, the spectrum from the custom operator
`ai.onnx.contrib.StftNorm`: squared magnitudes of a centred short-time Fourier transform of
one channel, padded with zeros.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

import reference  # noqa: E402 (it lies beside this file)

#: The same speech as the voice detector's case: 20 frames, each after 64 samples of context.
SPEECH = FOLDER.parent / "silero-vad" / "cases" / "voiced.npz"
CONTEXT = 64
#: A quarter of a second: nothing but silence reaches the floor of the logarithm.
SILENT_SAMPLES = 4000


def main() -> None:
    """Write the model and the case."""
    onnx.save(model(), FOLDER / "model.onnx")
    frames = np.load(SPEECH)["input"]
    speech = frames[:, 0, CONTEXT:].reshape(1, -1)
    (FOLDER / "cases").mkdir(exist_ok=True)
    silence = np.zeros((1, SILENT_SAMPLES), dtype=np.float32)
    audio = np.concatenate([speech, silence], axis=1)
    np.savez_compressed(FOLDER / "cases" / "speech.npz", audio=audio)


def model() -> onnx.ModelProto:
    """Return StftNorm, MatMul, Max, Log as one checked model."""
    module = reference.build()
    graph = helper.make_graph(
        nodes(),
        "log_mel",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, "samples"])],
        [
            helper.make_tensor_value_info(
                "features", TensorProto.FLOAT, [1, reference.MELS, "frames"]
            )
        ],
        [
            numpy_helper.from_array(np.array(reference.FFT, np.int64), "fft"),
            numpy_helper.from_array(np.array(reference.HOP, np.int64), "hop"),
            numpy_helper.from_array(module.window.numpy(), "window"),
            numpy_helper.from_array(module.bands.numpy(), "bands"),
            numpy_helper.from_array(np.array(reference.FLOOR, np.float32), "floor"),
        ],
        # No shape inference sees through a custom operator.
        value_info=[
            helper.make_tensor_value_info(
                "power", TensorProto.FLOAT, [1, reference.FFT // 2 + 1, "frames"]
            )
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.contrib", 1)]
    built = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(built)
    return built


def nodes() -> list[onnx.NodeProto]:
    """Return the four operators in order; `StftNorm` takes the window's length last."""
    return [
        helper.make_node(
            "StftNorm",
            ["audio", "fft", "hop", "window", "fft"],
            ["power"],
            name="spectrum",
            domain="ai.onnx.contrib",
        ),
        helper.make_node("MatMul", ["bands", "power"], ["mel_power"], name="mel"),
        helper.make_node("Max", ["mel_power", "floor"], ["audible"], name="floor_power"),
        helper.make_node("Log", ["audible"], ["features"], name="log"),
    ]


if __name__ == "__main__":
    main()
