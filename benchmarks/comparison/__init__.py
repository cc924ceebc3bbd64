"""What `benchmarks/peers.py` is made of: subjects (models), methods (ways to run them), a worker a row, and the report."""
