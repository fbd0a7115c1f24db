"""Which interpreters hold which ONNX Runtime build; starting, feeding and ending their workers."""
