"""What this machine gives the library: versions, the cache of compiled kernels, BLAS, GPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

__all__ = ["findings"]

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "sympy", "matplotlib", "rich")


def findings() -> dict[str, str]:
    """Facts by name, for reading."""
    from .core.compile import cache_folder

    folder = cache_folder()
    kernels = list(folder.rglob("*.nbc"))
    facts = {
        "dln": importlib.metadata.version("dln"),
        "python": platform.python_version(),
        "machine": _machine(),
    }
    for package in PACKAGES:
        facts[package] = importlib.metadata.version(package)
    size = sum(path.stat().st_size for path in kernels) / 1e6
    facts["compiled kernels"] = (
        f"{len(kernels)} in {folder} ({size:.1f} MB)" if kernels else f"none yet in {folder}"
    )
    facts["BLAS"] = _blas()
    facts["GPU"] = _gpu()
    return facts


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def _blas() -> str:
    import numpy as np

    build: Any = np.show_config(mode="dicts")
    blas = build["Build Dependencies"]["blas"]
    limits = [f"{name}={os.environ[name]}" for name in _THREADS if name in os.environ]
    return f"{blas['name']} {blas['version']}, threads: {', '.join(limits) or 'not limited (one per core)'}"


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def _gpu() -> str:
    if importlib.util.find_spec("cupy") is None:
        return "not used: CuPy is not installed (extra cuda13)"
    try:
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(0)
        return f"usable: {properties['name'].decode()}"
    except Exception as error:
        return f"not usable: {error}"
