"""Training of the codec: configuration, data, objective, loop."""
