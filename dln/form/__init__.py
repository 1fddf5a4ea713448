"""Forms: the same flow written in other numbers. A form is one class; `ALL` lists them in the order of preference."""

from __future__ import annotations

from .weights import Weights
from .wide import Wide

__all__ = ["ALL", "WEIGHTS", "WIDE"]

WEIGHTS, WIDE = Weights(), Wide()
ALL: dict[str, Weights] = {form.name: form for form in (WEIGHTS, WIDE)}
