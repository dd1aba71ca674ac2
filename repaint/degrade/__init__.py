"""Ageing: makes old, damaged and poor photographs of good ones, to learn from. Tensors only; each knows its damage.

An image is (3, H, W) float32 in [0, 1], at least 32 px; randomness comes from a generator on the CPU.
"""

from __future__ import annotations

from .ageing import DAMAGED, aged, damaged, degraded, scanned, weathered
from .damage import DAMAGING
from .lookalikes import lookalikes
from .overall import OVERALL
from .painting import BLENDS, LEVEL, Damaged, Overall, Structural, seen
from .stamps import stamped

EFFECTS: dict[str, Structural | Overall] = {**DAMAGING, **OVERALL}
"""All effects by name, `effect(image, strength, generator)`: strength 0 is the identity, 1 the worst of a real photo.

Those of `DAMAGING` answer `Damaged`, and change nothing outside the damage; those of `OVERALL` answer an image.
"""

__all__ = [
    "BLENDS",
    "DAMAGED",
    "DAMAGING",
    "EFFECTS",
    "LEVEL",
    "OVERALL",
    "Damaged",
    "aged",
    "damaged",
    "degraded",
    "lookalikes",
    "scanned",
    "seen",
    "stamped",
    "weathered",
]
