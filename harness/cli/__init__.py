"""The command `onnx-harness`."""
