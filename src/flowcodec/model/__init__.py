"""The model ring: the runtime's mathematics in PyTorch, trainable."""
