"""The best images of a model at a given cost, found by trying: `tune`."""
