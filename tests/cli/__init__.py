"""Tests of the command `onnx-harness`."""
