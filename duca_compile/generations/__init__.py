"""Which call belongs to which generation, and what is kept for each."""
