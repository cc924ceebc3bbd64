"""Bytes, FLOPs and lists of numbers in words that people read."""

from collections.abc import Iterable


def bytes_told(size: int) -> str:
    return _scaled(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def flops_told(flops: int) -> str:
    return _scaled(flops, 1000, ("FLOPs", "kFLOPs", "MFLOPs", "GFLOPs", "TFLOPs", "PFLOPs"))


def saved_told(speedup: float) -> str:
    """By how many times fewer FLOPs."""
    return "as many FLOPs as without" if 0.995 <= speedup < 1.005 else f"{speedup:.2f}x fewer FLOPs"


def share_told(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def ranges_told(numbers: Iterable[int]) -> str:
    """`0-2, 5` of 0, 1, 2, 5."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def counted(number: int, noun: str) -> str:
    """`1 graph`, `2 graphs`, `2 branches`, `2 trajectories`."""
    if number == 1:
        return f"1 {noun}"
    many = f"{noun[:-1]}ies" if noun.endswith("y") else noun + ("es" if noun.endswith("ch") else "s")
    return f"{number:,} {many}"


def _scaled(number: int, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while power < len(units) - 1 and number >= base ** (power + 1):
        power += 1
    return f"{number} {units[0]}" if power == 0 else f"{number / base**power:.4g} {units[power]}"
