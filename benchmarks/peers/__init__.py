"""Beside other caches: methods (ways to run a model), a worker a row, and the report."""
