"""The sections of `python benchmarks speed`."""
