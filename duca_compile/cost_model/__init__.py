"""Costs as formulas in a family's sizes."""
