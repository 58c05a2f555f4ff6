"""Bounds on the achievable rate: with what confidence, for a file, for a model, for a source."""
