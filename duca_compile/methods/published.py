"""Settings under which the methods' papers and code publish figures, by the name that the option `preset` takes.

`tests/test_published.py` holds their schedules against the published ones; `python benchmarks paper flops` counts them.
"""

from collections.abc import Mapping

from duca_compile.methods.base import Method
from duca_compile.methods.delta_dit import DeltaDiT
from duca_compile.methods.duca import DuCa
from duca_compile.methods.fora import FORA
from duca_compile.methods.pab import PAB
from duca_compile.methods.teacache import TeaCache
from duca_compile.methods.tgate import TGate
from duca_compile.methods.toca import ToCa

_DIT = DuCa(
    cycle=3, cache_ratio=0.95, schedule="force-fresh", order="conservative-last", ratios="dit", levels=10,
    selector="attention", staleness=0.25, spatial=0.8,
)  # fmt: skip
_FLUX = DuCa(warmup_steps=4, order="aggressive-first", ratios="flux")

PUBLISHED: Mapping[str, Method] = {
    "duca-dit": _DIT,
    "duca-flux": _FLUX,
    "duca-hidream": DuCa(cycle=4, order="aggressive-first", ratios="hidream"),
    "duca-opensora": DuCa(cycle=3, warmup_steps=3, ratios="opensora"),
    "duca-pixart": DuCa(cycle=3, cache_ratio=0.25, ratios="pixart", levels=7),
    "toca-dit": ToCa(cycle=3, cache_ratio=0.93, schedule="force-fresh", ratios="dit", levels=10, spatial=0.6),
    "toca-flux": ToCa(warmup_steps=3, ratios="flux"),
    "fora-dit": FORA(cycle=3),
    "delta-dit-flux": DeltaDiT(cycle=2, front=19, rear_share=1.0),
    "pab-246": PAB(2, 4, 6),
    "pab-357": PAB(3, 5, 7),
    "pab-579": PAB(5, 7, 9),
    "t-gate-pixart": TGate(),
    "teacache-flux": TeaCache(0.4, (498.651651, -283.781631, 55.8554382, -3.82021401, 0.264230861)),
    "teacache-opensora": TeaCache(0.1, (217.546007, -118.329252, 26.8662585, -0.0459364272, 0.048442624)),
}
