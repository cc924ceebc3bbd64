"""FLOPs and bytes of a mode's graph."""
