"""The runtime ring: files in, files out, with NumPy, ONNX Runtime and constriction. Never torch."""
