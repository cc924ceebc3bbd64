"""The speed-up against tokens, depth and batch."""
