"""Commands of the command line, a module for each field; imported by ``cli.py``, their libraries inside each body."""
