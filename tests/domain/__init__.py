"""Tests of harness.domain: no disk, no ONNX Runtime."""
