"""Forms: the same flow written in other numbers. A form is one class; `ALL` lists them in the order of preference."""

from __future__ import annotations

from .weights import Weights

__all__ = ["ALL"]

ALL = {form.name: form for form in (Weights(),)}
