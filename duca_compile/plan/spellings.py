"""How else options are written: values as texts, and names that papers and other packages give them."""

import re

import torch

from duca_compile.methods.check import OptionError

CACHE_DTYPES = (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
_SHORT = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "half": torch.float16,
    "fp8": torch.float8_e4m3fn,
    "float8": torch.float8_e4m3fn,
    "fp8_e4m3": torch.float8_e4m3fn,
    "float8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in CACHE_DTYPES} | _SHORT
"""By the names that `cache_dtype` takes. Of the types of 8 bits the usual one is that which rounds least."""
OTHER_NAMES = {
    "backend": "inner",
    "budget": "cache_budget",
    "cache_interval": "cycle",
    "compiler": "inner",
    "dtype": "cache_dtype",
    "fresh_threshold": "cycle",
    "interval": "cycle",
    "max_order": "order",
    "mode": "inductor_mode",
    "n": "cycle",
    "r": "cache_ratio",
    "ratio": "cache_ratio",
}
"""Options, by what they may be called elsewhere, in lower case: `N` and `R` in the papers of ToCa and DuCa."""
_UNITS = {"b": 1} | {
    f"{letter}{infix}b": base**power
    for power, letter in enumerate("kmgt", 1)
    for infix, base in (("", 1000), ("i", 1024))
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def dtype_of(value: object) -> object:
    """The type that a text such as `"bfloat16"`, `"torch.bfloat16"` or `"fp8"` names; any other value as it is."""
    if not isinstance(value, str):
        return value
    return DTYPES.get(value.lower().removeprefix("torch."), value)


def bytes_of(name: str, value: object) -> object:
    """Of the option `name`, the bytes of a text such as `"1GB"` (1000 ** 3) or `"1.5 GiB"` (of 1024 ** 3), or of a
    whole float such as 1.5e9; any other value as it is. Raises `OptionError` for a text that is no size."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip().lower())
    number, unit = found.groups() if found else ("", "")
    if not found or (unit or "b") not in _UNITS:
        raise OptionError(f"{name} cannot be {value!r}; it is a number of bytes, or a size such as '1GB' or '500 MiB'")
    return int(float(number) * _UNITS[unit or "b"])
