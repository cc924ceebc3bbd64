"""Ops of our own."""
