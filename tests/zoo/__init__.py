"""Denoising transformers of all kinds, tiny, with random non-zero weights."""
