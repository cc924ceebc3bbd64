"""How near cached images are to computed ones, on the trained example models."""
