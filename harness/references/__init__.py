"""Trusted runs: eager PyTorch, TorchScript, scikit-learn, the ONNX evaluator, recorded outputs."""
