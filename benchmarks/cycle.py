"""The cycle that benchmarks run: one full step in five, as the paper has it."""

from collections import Counter

from duca_compile import Options
from duca_compile.methods.duca import DuCa

CYCLE = 5
COUNTS = Counter(Options(DuCa(cycle=CYCLE)).sequence(CYCLE))
"""How many steps of a cycle run in each recipe."""
