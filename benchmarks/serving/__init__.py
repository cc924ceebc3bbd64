"""The example server under load, and how long it takes to start."""
