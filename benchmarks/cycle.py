"""The cycle that benchmarks run: one full step in five, as the paper has it."""

from collections import Counter

from duca_compile import Options

CYCLE = 5
COUNTS = Counter(Options(cycle=CYCLE).sequence(CYCLE))
"""How many steps of a cycle run in each mode."""
