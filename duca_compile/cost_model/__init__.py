"""Costs as formulas in a family's sizes."""

from duca_compile.cost_model.calibration import Calibration
from duca_compile.cost_model.model import CostModel, NotPolynomial, fit, steps_per_mode

__all__ = ["Calibration", "CostModel", "NotPolynomial", "fit", "steps_per_mode"]
