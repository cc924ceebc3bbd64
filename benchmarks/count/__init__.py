"""What is counted and not timed."""
