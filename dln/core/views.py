"""Parts of a flat array as vectors and matrices, without the checks and the compile time of slicing and reshaping.

Every shape is known at the door, so a kernel may point into its arrays. A view does not keep its array alive: it is for
use within the kernel that was given the array.
"""

from __future__ import annotations

from typing import Any

from numba import config, int64, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["matrix_at", "vector_at"]


def _matrix_at(flat: Any, start: int, rows: int, columns: int) -> Any:
    return flat.reshape(-1)[start : start + rows * columns].reshape(rows, columns)


def _vector_at(flat: Any, start: int, size: int) -> Any:
    return flat.reshape(-1)[start : start + size]


def _view(context: Any, builder: Any, kind: Any, flat: Any, start: Any, shape: Any) -> Any:
    view = context.make_array(kind)(context, builder)
    size = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
    strides = [size] if len(shape) == 1 else [builder.mul(size, shape[1]), size]
    context.populate_array(
        view,
        data=cgutils.gep(builder, flat.data, start)
        if hasattr(cgutils, "gep")
        else builder.gep(flat.data, [start]),
        shape=shape,
        strides=strides,
        itemsize=size,
        meminfo=None,
    )
    return view._getvalue()


if config.DISABLE_JIT:
    matrix_at, vector_at = _matrix_at, _vector_at
else:

    @intrinsic  # type: ignore[untyped-decorator]
    def matrix_at(typing: Any, flat: Any, start: Any, rows: Any, columns: Any) -> Any:
        """The rows x columns matrix that begins at an index of a flat array."""
        kind = types.Array(flat.dtype, 2, "C")

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, values[0])
            return _view(context, builder, kind, array, values[1], list(values[2:]))

        return kind(flat, int64, int64, int64), generate

    @intrinsic  # type: ignore[untyped-decorator]
    def vector_at(typing: Any, flat: Any, start: Any, size: Any) -> Any:
        """The vector of a size that begins at an index of the entries of an array."""
        kind = types.Array(flat.dtype, 1, "C")

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, values[0])
            return _view(context, builder, kind, array, values[1], [values[2]])

        return kind(flat, int64, int64), generate
