"""Integration methods. A method is one object; `ALL` lists them, the explicit ones first."""

from __future__ import annotations

from . import explicit
from .base import Method

__all__ = ["ALL", "Method"]

ALL: dict[str, Method] = {**explicit.ALL}
