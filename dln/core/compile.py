"""One way to compile: written signatures, function pointers for what varies, a disk cache that notices every edit.

A kernel is a plain function of arrays. `compiled` turns it into machine code for one written signature; the code is
stored on disk in a folder named by a hash of every file that holds kernels, so an edit in any of them starts a new
folder and no stale answer can return. What varies between problems (a cost, a form, a table of coefficients) enters a
kernel as an array or as a function pointer, so a new depth, width, method or cost compiles nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba import config, float64, int64, njit, types, void
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "SYSTEM",
    "cache_folder",
    "compiled",
    "helper",
    "inlined",
    "integers",
    "matrix",
    "gradient_of",
    "hessian_of",
    "kernel_at",
    "measure_of",
    "plain_records",
    "pointers",
    "product_of",
    "read_of",
    "record",
    "summing",
    "value_of",
    "vector",
    "velocity_of",
]

PACKAGE = Path(__file__).resolve().parents[1]
KERNEL_SOURCES = ("core/*.py", "form/*.py", "costs.py")

# a*b + c may be rounded once. Nothing assumes the absence of NaN or infinity, and sums keep their order: with
# reassociation LLVM turns the x - x of `isfinite` into 0.
FLAGS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True}
SUMS: dict[str, Any] = {**FLAGS, "fastmath": {"contract", "reassoc", "nsz"}}
INTERNAL = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # helpers are not called from Python

vector = types.Array(float64, 1, "C")
matrix = types.Array(float64, 2, "C")
integers = types.Array(int64, 1, "C")

# Kernels that vary with the problem. A stands row by row in a flat array with its rows and columns beside it; `data` is
# the cost as one flat array; an empty `batch` means every sample.
VALUE = float64(vector, int64, int64, vector)  # (A, rows, columns, data) -> C(A)
GRADIENT = void(vector, int64, int64, vector, integers, vector)  # (A, rows, columns, data, batch, out)
# (state, index, weight_decay, gradient, data, batch, work, out); leaves A at the head of work
VELOCITY = void(vector, integers, float64, types.FunctionType(GRADIENT), vector, integers, vector, vector)
# (state, velocity, index, weight_decay, value, data, work, out), called after the velocity, which left A in work;
# out = cost, objective, dissipation (= -d objective/dt)
MEASURE = void(vector, vector, integers, float64, types.FunctionType(VALUE), vector, vector, vector)
READ = void(vector, integers, vector, vector)  # (state, index, work, out): A from the state
HESSIAN = void(
    vector, vector, int64, int64, vector, vector
)  # (A, D, rows, columns, data, out): C''(A)[D] into out
# (state, direction, index, weight_decay, gradient, hessian, data, work, out): Hessian times a direction
PRODUCT = void(
    *(vector, vector, integers, float64),
    *(types.FunctionType(GRADIENT), types.FunctionType(HESSIAN), vector, vector, vector),
)

SIGNATURES = {
    "velocity": VELOCITY,
    "measure": MEASURE,
    "read": READ,
    "gradient": GRADIENT,
    "value": VALUE,
    "product": PRODUCT,
    "hessian": HESSIAN,
}

# What every outer loop is given of the problem: its kernels and their data.
SYSTEM = (
    types.UniTuple(types.uintp, len(SIGNATURES)),  # `pointers` of the kernels
    integers,  # index: the widths n_0 .. n_L
    float64,  # weight decay
    vector,  # data of the cost
    vector,  # work
)


def pointers(kernels: Sequence[Callable[..., Any]]) -> tuple[Any, ...]:
    """Addresses of compiled kernels, each with the one signature it was compiled for; 0 for None.

    A function pointer that Python hands over as a function costs 20 microseconds at every call, an address nothing.
    """
    return (
        tuple(kernels)
        if config.DISABLE_JIT
        else tuple(0 if kernel is None else _address(kernel) for kernel in kernels)
    )


@functools.lru_cache(maxsize=256)
def _address(kernel: Any) -> int:
    (result,) = kernel.overloads.values()
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


def kernel_at(position: int, signature: Any) -> Any:
    """Function of compiled code that turns a tuple of addresses into the kernel at one position."""
    if config.DISABLE_JIT:
        return lambda system: system[position]
    kind = types.FunctionType(signature)

    @intrinsic  # type: ignore[untyped-decorator]
    def kernel(typing: Any, system: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            model = cgutils.create_struct_proxy(kind)(context, builder)
            address = builder.extract_value(values[0], position)
            model.jit_addr = builder.inttoptr(address, cgutils.voidptr_t)
            return model._getvalue()

        return kind(system), generate

    return kernel


velocity_of, measure_of, read_of, gradient_of, value_of, product_of, hessian_of = (
    kernel_at(position, signature) for position, signature in enumerate(SIGNATURES.values())
)


def record(dtype: Any) -> Any:
    """Numba type of a contiguous array of records of the given NumPy dtype."""
    return numba.from_dtype(dtype)[::1]


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that kernels call: compiled as part of its callers."""
    return njit(**FLAGS, **INTERNAL)(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A helper that becomes part of its one caller before anything is compiled: what it calls is compiled once."""
    return njit(inline="always", **FLAGS, **INTERNAL)(function)


def summing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A helper that does nothing but sum, in any order, so that it becomes vector code."""
    return njit(**SUMS, **INTERNAL)(function)


@functools.cache
def compiled(function: Callable[..., Any], signature: Any, cache: bool = True) -> Callable[..., Any]:
    """Machine code of `function` for a signature (or the name of one), from the disk cache where it is there."""
    if config.DISABLE_JIT:
        return function
    flags = SUMS if signature in ("value", "gradient", "hessian") else FLAGS  # costs are sums
    if isinstance(signature, str):
        signature = SIGNATURES[signature]
    with _numba_cache_in(cache_folder()):
        return njit(signature, cache=cache, **flags)(function)


@functools.cache
def cache_folder() -> Path:
    """Folder of the compiled kernels: it is new whenever a kernel's source, Numba, Python or a debug flag is."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.version} {config.BOUNDSCHECK}".encode())
    for pattern in KERNEL_SOURCES:
        for path in sorted(PACKAGE.glob(pattern)):
            digest.update(path.read_bytes())
    name = digest.hexdigest()[:16]
    for root in _cache_roots():
        folder = root / "dln" / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    raise OSError("no folder for compiled kernels can be written. Set NUMBA_CACHE_DIR to one that can.")


def _cache_roots() -> Iterator[Path]:
    if config.CACHE_DIR:
        yield Path(config.CACHE_DIR)
    if sys.platform == "win32":
        yield Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        yield Path.home() / "Library" / "Caches"
    else:
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    yield Path(tempfile.gettempdir()) / f"dln-cache-{getattr(os, 'getuid', lambda: 0)()}"


_lock = threading.RLock()


@contextmanager
def _numba_cache_in(folder: Path) -> Iterator[None]:
    """Numba reads its cache folder from a global when a function is decorated; it is put back afterwards."""
    with _lock:
        before = config.CACHE_DIR
        config.CACHE_DIR = str(folder)
        try:
            yield
        finally:
            config.CACHE_DIR = before


def plain_records() -> bool:
    """Whether kernels run as plain Python, which sees the fields of a record only through `numpy.recarray`."""
    return bool(config.DISABLE_JIT)
