"""Costs given by the user's own functions: compiled if they can be, called back as Python if not."""

from __future__ import annotations

import ctypes
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from .compile import FLAGS, GRADIENT, PACKAGE, VALUE, compiled, matrix

__all__ = ["CustomKernels"]

DIFFERENCE = 6e-6

_VALUE_CALL = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_GRADIENT_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


class CustomKernels:
    """Value and gradient kernels of two plain functions, and what those functions raised meanwhile."""

    def __init__(self, value: Callable[..., Any], gradient: Callable[..., Any]) -> None:
        self._failure: BaseException | None = None
        self._hessian: Any = None
        if numba.config.DISABLE_JIT:
            self.value, self.gradient = self._plain(value, gradient)
            return
        for name, function in (("value", value), ("gradient", gradient)):
            _takes_one_argument(function, name)
        try:
            self.value, self.gradient = _compile(value, gradient)
        except Exception as error:  # whatever Numba trips over, Python may still run
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            text = f"this Custom cost cannot be compiled and runs as Python, which is slower ({reason})"
            warnings.warn(text, stacklevel=_depth_within_package())
            self.value, self.gradient = self._call_back(value, gradient)

    def hessian(self) -> Callable[..., Any]:
        """Central difference of the gradient, with the step of `Custom.hessian_vector`."""
        if self._hessian is None:
            self._hessian = _difference(self.gradient)
        return self._hessian

    def take_failure(self) -> BaseException | None:
        """The exception that a function raised, once."""
        failure, self._failure = self._failure, None
        return failure

    def _plain(self, value: Callable[..., Any], gradient: Callable[..., Any]) -> tuple[Any, Any]:
        """The two as kernels in Python; an exception becomes NaN, which ends the run, and is kept."""

        def value_kernel(A: Any, rows: int, columns: int, data: Any) -> float:
            try:
                return float(data[0] * value(A.reshape(rows, columns).copy()))
            except BaseException as error:
                self._failure = self._failure or error
                return float("nan")

        def gradient_kernel(A: Any, rows: int, columns: int, data: Any, batch: Any, out: Any) -> None:
            try:
                G = np.asarray(gradient(A.reshape(rows, columns).copy()))
                if G.dtype.kind not in "biuf":
                    raise TypeError(f"`gradient` must return real numbers, got dtype {G.dtype}: {G!r}")
                if G.shape != (rows, columns):
                    raise ValueError(
                        f"`gradient` must return the shape of A, {(rows, columns)}, got {G.shape}. Mend the function."
                    )
                out[:] = data[0] * G.ravel()
            except BaseException as error:
                self._failure = self._failure or error
                out[:] = np.nan

        return value_kernel, gradient_kernel

    def _call_back(self, value: Callable[..., Any], gradient: Callable[..., Any]) -> tuple[Any, Any]:
        """Compiled shells around C callbacks into the plain kernels."""
        plain_value, plain_gradient = self._plain(value, gradient)
        unit, no_batch = np.ones(1), np.empty(0, np.int64)

        def view(address: int, size: int) -> Any:
            buffer: Any = (ctypes.c_double * size).from_address(address)
            return np.frombuffer(buffer, dtype=np.float64)

        call_value = _VALUE_CALL(lambda A, n, m: plain_value(view(A, n * m), n, m, unit))
        call_gradient = _GRADIENT_CALL(
            lambda A, n, m, out: plain_gradient(view(A, n * m), n, m, unit, no_batch, view(out, n * m))
        )

        def value_kernel(A, rows, columns, data):  # type: ignore[no-untyped-def]
            return data[0] * call_value(A.ctypes.data, rows, columns)

        def gradient_kernel(A, rows, columns, data, batch, out):  # type: ignore[no-untyped-def]
            call_gradient(A.ctypes.data, rows, columns, out.ctypes.data)
            for i in range(out.size):
                out[i] *= data[0]

        return compiled(value_kernel, "value", cache=False), compiled(
            gradient_kernel, "gradient", cache=False
        )


def _compile(value: Callable[..., Any], gradient: Callable[..., Any]) -> tuple[Any, Any]:
    """Both functions compiled for a float64 matrix, inside kernels of the written signatures."""
    value_jit, gradient_jit = numba.njit(**FLAGS)(_plain(value)), numba.njit(**FLAGS)(_plain(gradient))
    value_jit.compile((matrix,))
    gradient_jit.compile((matrix,))

    def value_kernel(A, rows, columns, data):  # type: ignore[no-untyped-def]
        return data[0] * value_jit(A.reshape((rows, columns)).copy())

    def gradient_kernel(A, rows, columns, data, batch, out):  # type: ignore[no-untyped-def]
        G = gradient_jit(A.reshape((rows, columns)).copy())
        if G.shape[0] != rows or G.shape[1] != columns:
            raise ValueError("`gradient` must return the shape of A. Mend the function.")
        for i in range(rows):
            for j in range(columns):
                out[i * columns + j] = data[0] * G[i, j]

    return compiled(value_kernel, VALUE, cache=False), compiled(gradient_kernel, GRADIENT, cache=False)


def _difference(gradient: Callable[..., Any]) -> Callable[..., Any]:
    def hessian_kernel(A, D, rows, columns, data, out):  # type: ignore[no-untyped-def]
        length, size = np.sqrt(np.sum(A * A)), np.sqrt(np.sum(D * D))
        step = DIFFERENCE * max(1.0, length) / max(size, 1e-300)
        no_batch, behind = np.empty(0, np.int64), np.empty(out.size)
        gradient(A + step * D, rows, columns, data, no_batch, out)
        gradient(A - step * D, rows, columns, data, no_batch, behind)
        for i in range(out.size):
            out[i] = (out[i] - behind[i]) / (2.0 * step)

    return compiled(hessian_kernel, "hessian", cache=False)


def _depth_within_package() -> int:
    """Number of frames from here to the caller of the package: the one whom a warning concerns."""
    frame, depth = inspect.currentframe(), 0
    while frame is not None and Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
        frame, depth = frame.f_back, depth + 1
    return depth


def _takes_one_argument(function: Callable[..., Any], name: str) -> None:
    try:
        inspect.signature(_plain(function)).bind(None)
    except TypeError as error:
        raise TypeError(
            f"`{name}` must be a function of the matrix A alone, got {function!r}. Mend it."
        ) from error
    except ValueError:
        return  # a built-in function that does not say what it takes


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The Python function behind a function that the user has compiled already."""
    return getattr(function, "py_func", function)
