"""Checkpoint -> model file: integer graphs, probability tables, and the proofs that go with them."""
