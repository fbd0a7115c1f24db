"""The stand-alone program that runs inside a runtime's interpreter.

It needs Python 3.10, numpy and one build of ONNX Runtime, and nothing of the harness: the folder
is started by path (`python -I .../worker`), and the harness imports only `wire` from it.
"""
