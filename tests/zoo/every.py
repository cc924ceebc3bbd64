"""All entries of the zoo by name."""

from zoo.broken import CASES as BROKEN
from zoo.case import Case
from zoo.core import CORE
from zoo.images_a import CASES as IMAGES_A
from zoo.images_b import CASES as IMAGES_B
from zoo.images_c import CASES as IMAGES_C
from zoo.own import CASES as OWN
from zoo.own_more import CASES as OWN_MORE
from zoo.videos_a import CASES as VIDEOS_A
from zoo.videos_b import CASES as VIDEOS_B

ZOO: dict[str, Case] = {
    **CORE, **IMAGES_A, **IMAGES_B, **IMAGES_C, **VIDEOS_A, **VIDEOS_B, **BROKEN, **OWN, **OWN_MORE,
}  # fmt: skip
