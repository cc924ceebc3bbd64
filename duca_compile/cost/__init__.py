"""FLOPs and bytes of a recipe's graph."""
