"""Integration methods. A method is one object; `ALL` lists them, the explicit ones first."""

from __future__ import annotations

from . import collocation, explicit, exponential, rosenbrock, stabilised
from .base import Method

__all__ = ["ALL", "Method"]

ALL: dict[str, Method] = {
    name: method
    for family in (explicit, stabilised, collocation, rosenbrock, exponential)
    for name, method in family.ALL.items()
}
