"""What is in a captured graph: pure facts, which never touch it."""
