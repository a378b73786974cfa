"""Fuzzing: one function a target, which hypothesis calls in `make test` and atheris in `make fuzz`."""
