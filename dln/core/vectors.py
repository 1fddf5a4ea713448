"""Products of small matrices and sums of Runge-Kutta stages, written as explicit vector code.

BLAS needs a hundred nanoseconds before its first multiplication, and a compiled triple loop leaves most of a
vector unit idle. The functions here are LLVM vector instructions instead, for shapes known only at run time:
a new size compiles nothing. They are called from compiled code, with C-contiguous arrays of float64. NaN and
infinity spread as in the plain functions beside them (`multiply_plain`, ...), which are their meaning and
take their names when Numba's compiler is switched off.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numba.core.cgutils
import numpy as np
from llvmlite import ir
from numba import config, float64, int64, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .views import matrix_at

__all__ = [
    "multiply",
    "multiply_tn",
    "transpose",
    "combine",
    "weighted",
    "multiply_plain",
    "multiply_tn_plain",
    "transpose_plain",
    "combine_plain",
    "weighted_plain",
]

Array = np.ndarray[Any, np.dtype[np.float64]]
cgutils: Any = numba.core.cgutils  # its annotations are partial

# From this many multiplications on, a product goes to BLAS, whose copies of the operands begin to pay between
# 128^3 and 400^3 for square matrices, never for a few columns, for which A is read once and multiplied as it comes
# (measured with one thread: 6 against 15 to 19 ms for 4000 x 4000 times 4000 x 10, and 6 to read it).
BLAS_FROM, BLAS_COLUMNS = 8_000_000, 25

ROWS = 6  # rows of a tile: 6 rows of 2 vectors, 2 vectors of B and 1 of A fit in the 16 registers of AVX2
DEPTH = 4  # vectors of a stage combination summed side by side, to hide the latency of an addition

DOUBLE, INTEGER, POINTER = ir.DoubleType(), ir.IntType(64), ir.PointerType()
ALIGN = 8  # views of a state start anywhere
FAST = ("nsz", "contract")  # nothing that assumes the absence of NaN or infinity


# ----------------------------------------------------------------------------------------------------------
# The plain functions
# ----------------------------------------------------------------------------------------------------------


def multiply_plain(A: Array, a: int, B: Array, b: int, out: Array, o: int, m: int, k: int, n: int) -> None:
    """Write ``A @ B`` into `out`."""
    out[o : o + m * n] = (part(A, a, m, k) @ part(B, b, k, n)).ravel()


def multiply_tn_plain(A: Array, a: int, B: Array, b: int, out: Array, o: int, m: int, k: int, n: int) -> None:
    """Write ``A.T @ B`` into `out`."""
    out[o : o + m * n] = (part(A, a, k, m).T @ part(B, b, k, n)).ravel()


def transpose_plain(A: Array, a: int, out: Array, o: int, m: int, n: int) -> None:
    """Write ``A.T`` into `out`."""
    out[o : o + m * n] = part(A, a, m, n).T.ravel()


def part(flat: Array, start: int, rows: int, columns: int) -> Array:
    """Return the matrix that begins at an index of a flat array."""
    return flat[start : start + rows * columns].reshape(rows, columns)


def combine_plain(y: Array, K: Array, coefficients: Array, count: int, h: float, out: Array) -> None:
    """Write ``y + h * sum(coefficients[j] * K[j] for j < count)`` into `out`, which may be `y`."""
    total = np.empty_like(out)
    weighted_plain(K, coefficients, count, h, total)
    out[:] = y + total


def weighted_plain(K: Array, coefficients: Array, count: int, h: float, out: Array) -> None:
    """Write ``h * sum(coefficients[j] * K[j] for j < count)`` into `out`; a coefficient 0 skips its row."""
    out[:] = 0.0
    for j in range(count):
        if coefficients[j] != 0.0:
            out += coefficients[j] * K[j]
    out *= h


# ----------------------------------------------------------------------------------------------------------
# Instructions
# ----------------------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """Consecutive entries handled as one vector: the first index, the number of lanes, the lanes in use."""

    start: ir.Value
    lanes: int
    mask: ir.Value | None = None


def integer(value: int) -> ir.Constant:
    return ir.Constant(INTEGER, value)


def vector(lanes: int) -> ir.VectorType:
    return ir.VectorType(DOUBLE, lanes)


class Writer(ir.IRBuilder):  # type: ignore[misc]
    """Writes the instructions of one LLVM function, for the processor that `context` compiles for.

    Attributes
    ----------
    lanes : int
        Entries of a vector: one or two registers of the processor.
    masked : bool
        Whether vectors can be loaded and stored in part at no cost.
    """

    def __init__(self, context: Any, function: ir.Function) -> None:
        super().__init__(function.append_basic_block())
        self.context = context
        triple, _, features = context.codegen().magic_tuple()
        features = features.split(",")
        self.masked = "+avx512f" in features
        wide = "+avx" in features or triple.startswith(("aarch64", "arm64"))
        self.lanes = 8 if self.masked else 4 if wide else 2

    def minimum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.select(self.icmp_signed("<", a, b), a, b)

    def address(self, array: ir.Value, *offsets: ir.Value) -> ir.Value:
        return self.gep(array, [functools.reduce(self.add, offsets)], source_etype=DOUBLE)

    def scalar(self, array: ir.Value, *offsets: ir.Value) -> ir.Value:
        """Load one entry."""
        return self.load(self.address(array, *offsets), align=ALIGN, typ=DOUBLE)

    def splat(self, value: ir.Value, lanes: int) -> ir.Value:
        """Return the vector with `value` in each lane."""
        unset = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
        zeros = ir.Constant(ir.VectorType(cgutils.int32_t, lanes), [0] * lanes)
        return self.shuffle_vector(self.insert_element(unset, value, cgutils.int32_t(0)), unset, zeros)

    def intrinsic(
        self, name: str, result: ir.Type, *arguments: ir.Value, flags: Sequence[str] = ()
    ) -> ir.Value:
        kind = ir.FunctionType(result, [x.type for x in arguments])
        return self.call(cgutils.get_or_insert_function(self.module, kind, name), arguments, fastmath=flags)

    def load_piece(self, array: ir.Value, offset: ir.Value, piece: Piece) -> ir.Value:
        address, kind = self.address(array, offset, piece.start), vector(piece.lanes)
        if piece.mask is None:
            return self.load(address, align=ALIGN, typ=kind)
        rest = (cgutils.int32_t(ALIGN), piece.mask, ir.Constant(kind, None))
        return self.intrinsic(f"llvm.masked.load.v{piece.lanes}f64.p0", kind, address, *rest)

    def store_piece(self, value: ir.Value, array: ir.Value, offset: ir.Value, piece: Piece) -> None:
        address = self.address(array, offset, piece.start)
        if piece.mask is None:
            self.store(value, address, align=ALIGN)
        else:
            rest = (cgutils.int32_t(ALIGN), piece.mask)
            self.intrinsic(f"llvm.masked.store.v{piece.lanes}f64.p0", ir.VoidType(), value, address, *rest)

    def narrow(self, start: ir.Value, stop: ir.Value, write: Callable[[Piece], None]) -> None:
        """Handle the entries `start` to `stop`, fewer than a vector: in a masked vector or one by one."""
        if self.masked:
            lanes = ir.Constant(ir.VectorType(INTEGER, self.lanes), list(range(self.lanes)))
            mask = self.icmp_signed("<", lanes, self.splat(self.sub(stop, start), self.lanes))
            write(Piece(start, self.lanes, mask))
        else:
            with cgutils.for_range(self, stop, start=start) as loop:
                write(Piece(loop.index, 1))

    def zeros(self, lanes: Sequence[int]) -> list[ir.Value]:
        """Return variables set to 0, vectors of `lanes`. LLVM keeps them in registers."""
        return [cgutils.alloca_once_value(self, ir.Constant(vector(n), None)) for n in lanes]

    def add_product(self, total: ir.Value, a: ir.Value, b: ir.Value) -> None:
        """Add ``a * b`` to the variable `total`, where `a` may be a scalar."""
        kind = b.type
        if a.type == DOUBLE:
            a = self.splat(a, kind.count)
        name, old = f"llvm.fmuladd.v{kind.count}f64", self.load(total, typ=kind)
        self.store(self.intrinsic(name, kind, a, b, old, flags=FAST), total)

    def add_lanes(self, value: ir.Value, total: ir.Value) -> ir.Value:
        """Return the scalar `total` plus the sum of the lanes of `value`."""
        name = f"llvm.vector.reduce.fadd.v{value.type.count}f64"
        return self.intrinsic(name, DOUBLE, total, value, flags=(*FAST, "reassoc"))

    def transposed(self, rows: Sequence[ir.Value]) -> list[ir.Value]:
        """Return the columns of the matrix whose rows are `rows`, as many as lanes and a power of 2."""
        side, result = len(rows), list(rows)
        kind = ir.VectorType(cgutils.int32_t, side)
        masks = [ir.Constant(kind, [i // 2 + i % 2 * side for i in range(s, s + side)]) for s in (0, side)]
        for _ in range(side.bit_length() - 1):  # interleaving the two halves log2(side) times transposes
            pairs = zip(result[: side // 2], result[side // 2 :], strict=True)
            result = [self.shuffle_vector(a, b, mask) for a, b in pairs for mask in masks]
        return result


@functools.cache
def version() -> str:
    """Return a name for this text, so that code cached from another one keeps to itself."""
    return f"{zlib.crc32(Path(__file__).read_bytes()):08x}"


def call_written(
    context: Any,
    builder: Any,
    name: str,
    arguments: Sequence[ir.Value],
    write: Callable[..., None],
    *options: Any,
) -> None:
    """Call the function `name`, written by ``write(writer, *options)`` where the module does not have it yet.

    Its arguments are few enough for registers. It is not inlined: a caller costs one call to compile, and
    each function has the registers to itself.
    """
    kinds = [POINTER if isinstance(x.type, ir.PointerType) else x.type for x in arguments]
    kind = ir.FunctionType(ir.VoidType(), kinds)
    function = cgutils.get_or_insert_function(builder.module, kind, f"dln_{name}_{version()}")
    if function.is_declaration:
        function.linkage = "linkonce_odr"
        for attribute in ("noinline", "nounwind", "optsize"):  # optsize: unrolled loops are no faster here
            function.attributes.add(attribute)
        writer = Writer(context, function)
        write(writer, *options)
        writer.ret_void()
    builder.call(function, arguments)


# ----------------------------------------------------------------------------------------------------------
# Products
# ----------------------------------------------------------------------------------------------------------


def write_product(w: Writer) -> None:
    """Write ``out = A B``, where ``A[i, p]`` stands at ``A + i * row + p * step``: A may be transposed."""
    A, B, out, m, k, n, row, step = w.function.args
    one = integer(1)
    column = w.and_(w.icmp_signed("==", n, one), w.icmp_signed("==", step, one))
    with w.if_then(column, likely=False):
        call_written(w.context, w, "column", [A, B, out, m, k], write_column)
        w.ret_void()
    place = cgutils.alloca_once_value(w, integer(0))
    with cgutils.for_range(w, w.udiv(w.add(m, integer(ROWS - 1)), integer(ROWS))):
        i = w.load(place, typ=INTEGER)
        left = w.sub(m, i)
        # As many rows as a tile has, but the last two tiles share what is left: few rows are slow.
        half = w.lshr(w.add(left, one), one)
        rows = w.select(w.icmp_signed(">=", left, integer(2 * ROWS)), integer(ROWS), half)
        rows = w.select(w.icmp_signed("<=", left, integer(ROWS)), left, rows)
        arguments = [w.address(A, w.mul(i, row)), B, w.address(out, w.mul(i, n)), k, n, row, step]
        after = w.append_basic_block()
        choice = w.switch(rows, after)
        for count in range(1, ROWS + 1):
            with w.goto_block(w.append_basic_block()):
                choice.add_case(integer(count), w.basic_block)
                call_written(w.context, w, f"rows{count}", arguments, write_rows, count)
                w.branch(after)
        w.position_at_end(after)
        w.store(w.add(i, rows), place)


def write_rows(w: Writer, rows: int) -> None:
    """Write `rows` rows of the product: tiles of several vectors, then what is left of the columns.

    A vector that would pass the last column is moved back to end there; the entries it shares with the one
    before are written twice, with the same value.
    """
    n, lanes = w.function.args[4], w.lanes
    last, done = w.sub(n, integer(lanes)), integer(0)
    for width in (4, 2) if rows <= 2 else (2,):  # few rows need more columns to keep enough sums in flight
        # A tile as long as more than `width - 1` vectors are left.
        tiles = w.udiv(w.add(w.sub(n, done), integer(lanes - 1)), integer(width * lanes))
        with cgutils.for_range(w, tiles) as loop:
            first = w.add(done, w.mul(loop.index, integer(width * lanes)))
            starts = [w.add(first, integer(v * lanes)) for v in range(width)]
            starts[-1] = w.minimum(starts[-1], last)
            write_tile(w, rows, [Piece(start, lanes) for start in starts])
        done = w.add(done, w.mul(tiles, integer(width * lanes)))
    whole = w.icmp_signed("<=", integer(lanes), n)
    with w.if_then(w.icmp_signed("<", done, n)), w.if_else(whole) as (full, part):
        with full:
            write_tile(w, rows, [Piece(last, lanes)])
        with part:
            w.narrow(integer(0), n, lambda piece: write_tile(w, rows, [piece]))


def write_tile(w: Writer, rows: int, pieces: Sequence[Piece]) -> None:
    """Write ``out[i, piece] = sum_p A[i, p] B[p, piece]`` for the first `rows` rows and all `pieces`."""
    A, B, out, k, n, row, step = w.function.args
    totals = [w.zeros([piece.lanes for piece in pieces]) for _ in range(rows)]
    starts = [w.address(A, w.mul(integer(i), row)) for i in range(rows)]
    with cgutils.for_range(w, k) as loop:
        loaded = [w.load_piece(B, w.mul(loop.index, n), piece) for piece in pieces]
        for start, line in zip(starts, totals, strict=True):
            a = w.scalar(start, w.mul(loop.index, step))
            for total, b in zip(line, loaded, strict=True):
                w.add_product(total, a, b)
    for i, line in enumerate(totals):
        for total, piece in zip(line, pieces, strict=True):
            w.store_piece(w.load(total, typ=vector(piece.lanes)), out, w.mul(integer(i), n), piece)


def write_column(w: Writer) -> None:
    """Write ``out = A b`` for one column, as sums along the rows of A: four at once, then one by one."""
    m = w.function.args[3]
    fours = w.udiv(m, integer(4))
    with cgutils.for_range(w, fours) as loop:
        write_inner(w, w.mul(loop.index, integer(4)), 4)
    with cgutils.for_range(w, m, start=w.mul(fours, integer(4))) as loop:
        write_inner(w, loop.index, 1)


def write_inner(w: Writer, first: ir.Value, rows: int) -> None:
    """Write ``out[i] = sum_p A[i, p] b[p]`` for `rows` rows from `first` on."""
    A, b, out, _, k = w.function.args
    lanes, starts = w.lanes, [w.mul(w.add(first, integer(i)), k) for i in range(rows)]
    totals = w.zeros([lanes] * rows)
    ends = totals if w.masked else w.zeros([1] * rows)

    def add(sums: Sequence[ir.Value], piece: Piece) -> None:
        factor = w.load_piece(b, integer(0), piece)
        for total, start in zip(sums, starts, strict=True):
            w.add_product(total, w.load_piece(A, start, piece), factor)

    whole = w.udiv(k, integer(lanes))
    with cgutils.for_range(w, whole) as loop:
        add(totals, Piece(w.mul(loop.index, integer(lanes)), lanes))
    w.narrow(w.mul(whole, integer(lanes)), k, lambda piece: add(ends, piece))
    for i in range(rows):
        value = w.add_lanes(w.load(totals[i], typ=vector(lanes)), ir.Constant(DOUBLE, 0.0))
        if not w.masked:
            value = w.add_lanes(w.load(ends[i], typ=vector(1)), value)
        w.store(value, w.address(out, first, integer(i)), align=ALIGN)


def write_transpose(w: Writer) -> None:
    """Write ``out = A.T`` in square blocks; a block that would pass an edge is moved back to end there."""
    A, out, m, n = w.function.args
    side = min(4, w.lanes)

    def blocks(extent: ir.Value) -> Any:
        return cgutils.for_range(w, w.udiv(w.add(extent, integer(side - 1)), integer(side)))

    def start(loop: Any, extent: ir.Value) -> ir.Value:
        return w.minimum(w.mul(loop.index, integer(side)), w.sub(extent, integer(side)))

    with w.if_else(w.icmp_signed("<=", integer(side), w.minimum(m, n))) as (large, small):
        with large, blocks(m) as down, blocks(n) as across:
            i, j = start(down, m), start(across, n)
            rows = [w.load_piece(A, w.mul(w.add(i, integer(r)), n), Piece(j, side)) for r in range(side)]
            for c, column in enumerate(w.transposed(rows)):
                w.store_piece(column, out, w.mul(w.add(j, integer(c)), m), Piece(i, side))
        with small, cgutils.for_range(w, m) as down, cgutils.for_range(w, n) as across:
            value = w.scalar(A, w.mul(down.index, n), across.index)
            w.store(value, w.address(out, w.mul(across.index, m), down.index), align=ALIGN)


# ----------------------------------------------------------------------------------------------------------
# Sums of stages
# ----------------------------------------------------------------------------------------------------------


def write_sum(w: Writer, added: bool) -> None:
    """Write ``out = y + h * sum_j coefficients[j] K[j]``, without y unless `added`."""
    n, lanes = w.function.args[5], w.lanes
    deep, whole = w.udiv(n, integer(DEPTH * lanes)), w.udiv(n, integer(lanes))
    with cgutils.for_range(w, deep) as loop:
        first = w.mul(loop.index, integer(DEPTH * lanes))
        write_block(w, [Piece(w.add(first, integer(v * lanes)), lanes) for v in range(DEPTH)], added)
    with cgutils.for_range(w, whole, start=w.mul(deep, integer(DEPTH))) as loop:
        write_block(w, [Piece(w.mul(loop.index, integer(lanes)), lanes)], added)
    done = w.mul(whole, integer(lanes))
    with w.if_then(w.icmp_signed("<", done, n)):
        w.narrow(done, n, lambda piece: write_block(w, [piece], added))


def write_block(w: Writer, pieces: Sequence[Piece], added: bool) -> None:
    """Write the sum for the entries of `pieces`, side by side."""
    y, K, coefficients, out, count, n, h = w.function.args
    zero = integer(0)
    totals = w.zeros([piece.lanes for piece in pieces])
    with cgutils.for_range(w, count) as loop:
        c = w.scalar(coefficients, loop.index)
        with w.if_then(w.fcmp_unordered("!=", c, ir.Constant(DOUBLE, 0.0))):
            for total, piece in zip(totals, pieces, strict=True):
                w.add_product(total, c, w.load_piece(K, w.mul(loop.index, n), piece))
    for total, piece in zip(totals, pieces, strict=True):
        kind = vector(piece.lanes)
        value = w.load(total, typ=kind)
        w.store(w.load_piece(y, zero, piece) if added else ir.Constant(kind, None), total)
        w.add_product(total, h, value)
        w.store_piece(w.load(total, typ=kind), out, zero, piece)


# ----------------------------------------------------------------------------------------------------------
# The functions for compiled code
# ----------------------------------------------------------------------------------------------------------


def in_place_of(plain: Callable[..., None]) -> Callable[[Any], Callable[..., Any]]:
    """Return the decorator of a function for compiled code, which is `plain` where nothing is compiled."""

    def decorate(function: Any) -> Any:
        return plain if config.DISABLE_JIT else intrinsic(function)

    return decorate


def check(*arrays: Any, dimensions: int) -> None:
    for array in arrays:
        wanted = (float64, dimensions, "C")
        if not isinstance(array, types.Array) or (array.dtype, array.ndim, array.layout) != wanted:
            raise TypingError(f"C-contiguous float64 of {dimensions} dimensions is needed, not {array}")


def unpack(context: Any, builder: Any, kinds: Sequence[Any], values: Sequence[Any]) -> Any:
    """Return the address and the shape of each array."""
    arrays = [context.make_array(kind)(context, builder, x) for kind, x in zip(kinds, values, strict=True)]
    return [(array.data, cgutils.unpack_tuple(builder, array.shape)) for array in arrays]


def refuse(context: Any, builder: Any, conditions: Sequence[Any], message: str) -> None:
    """Raise a ValueError where one of the conditions holds."""
    with builder.if_then(functools.reduce(builder.or_, conditions), likely=False):
        context.call_conv.return_user_exc(builder, ValueError, (message,))


def differ(builder: Any, *pairs: tuple[Any, Any]) -> list[Any]:
    return [builder.icmp_signed("!=", *pair) for pair in pairs]


def blas(A, a, B, b, out, o, m, k, n):  # type: ignore[no-untyped-def]
    np.dot(matrix_at(A, a, m, k), matrix_at(B, b, k, n), matrix_at(out, o, m, n))


def blas_tn(A, a, B, b, out, o, m, k, n):  # type: ignore[no-untyped-def]
    np.dot(matrix_at(A, a, k, m).T, matrix_at(B, b, k, n), matrix_at(out, o, m, n))


def addresses(context: Any, builder: Any, kinds: Sequence[Any], values: Sequence[Any]) -> list[ir.Value]:
    """Return the addresses of matrices given as pairs of a flat array and the index at which they begin."""
    result = []
    for i, kind in enumerate(kinds):
        if isinstance(kind, types.Array):
            flat = context.make_array(kind)(context, builder, values[i])
            result.append(builder.gep(flat.data, [values[i + 1]], source_etype=DOUBLE))
    return result


def product(context: Any, builder: Any, signature: Any, values: Any, transposed: bool) -> Any:
    """Write, at the place of call, the choice of vector code or BLAS."""
    a, b, c = addresses(context, builder, signature.args, values)
    m, k, n = values[6:]
    arguments = [a, b, c, m, k, n, k, integer(1)]
    if transposed:
        # With one column, (A.T b).T = b.T A reads both arrays in the order of memory.
        alone, swapped = builder.icmp_signed("==", n, integer(1)), [b, a, c, n, k, m, k, integer(1)]
        arguments = [a, b, c, m, k, n, integer(1), m]
        arguments = [builder.select(alone, *pair) for pair in zip(swapped, arguments, strict=True)]
    own = builder.icmp_signed("<", builder.mul(builder.mul(m, k), n), integer(BLAS_FROM))
    if not transposed:
        own = builder.or_(own, builder.icmp_signed("<", n, integer(BLAS_COLUMNS)))
    with builder.if_else(own, likely=True) as (small, large):
        with small:
            call_written(context, builder, "product", arguments, write_product)
        with large:
            # Raised here, not passed on: Numba can then drop the reference counts of the caller's arrays.
            compiled = context.compile_subroutine(builder, blas_tn if transposed else blas, signature)
            status, _ = context.call_internal_no_propagate(builder, compiled.fndesc, signature, values)
            refuse(context, builder, [status.is_error], "BLAS refused a product")
    return context.get_dummy_value()


def stages(context: Any, builder: Any, signature: Any, values: Any, added: bool) -> Any:
    """Write, at the place of call, the check of the shapes and the call of a sum of stages."""
    kinds = signature.args
    if not added:
        kinds, values = (kinds[-1], *kinds), (values[-1], *values)  # out stands for y, which is not read
    which = (0, 1, 2, 5)
    arrays = unpack(context, builder, [kinds[i] for i in which], [values[i] for i in which])
    (y, (length,)), (K, (height, width)), (c, (entries,)), (out, (n,)) = arrays
    count, h = values[3:5]
    wrong = differ(builder, (n, width), (n, length))
    wrong += [builder.icmp_signed(">", count, x) for x in (height, entries)]
    refuse(context, builder, wrong, "shapes of a sum of stages do not match")
    name = "combine" if added else "weighted"
    call_written(context, builder, name, [y, K, c, out, count, n, h], write_sum, added)
    return context.get_dummy_value()


@in_place_of(multiply_plain)
def multiply(typing: Any, A: Any, a: Any, B: Any, b: Any, out: Any, o: Any, m: Any, k: Any, n: Any) -> Any:
    """Write ``A @ B`` into `out`, matrices that begin at an index of a flat array and lie there row by row.

    Parameters
    ----------
    A, a : flat array, index
        Where the m x k matrix A begins.
    B, b : flat array, index
        Where the k x n matrix B begins.
    out, o : flat array, index
        Where the m x n product goes; it shares no memory with A and B.
    m, k, n : int
        The caller answers for these and the indices to lie within the arrays.
    """
    check(A, B, out, dimensions=1)
    return types.void(A, int64, B, int64, out, *[int64] * 4), functools.partial(product, transposed=False)


@in_place_of(multiply_tn_plain)
def multiply_tn(typing: Any, A: Any, a: Any, B: Any, b: Any, out: Any, o: Any, m: Any, k: Any, n: Any) -> Any:
    """Write ``A.T @ B`` into `out`, where A is k x m; otherwise as `multiply`."""
    check(A, B, out, dimensions=1)
    return types.void(A, int64, B, int64, out, *[int64] * 4), functools.partial(product, transposed=True)


@in_place_of(transpose_plain)
def transpose(typing: Any, A: Any, a: Any, out: Any, o: Any, m: Any, n: Any) -> Any:
    """Write the transpose of the m x n matrix A into `out`; otherwise as `multiply`."""
    check(A, out, dimensions=1)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, b = addresses(context, builder, signature.args[:4], values[:4])
        call_written(context, builder, "transpose", [a, b, values[4], values[5]], write_transpose)
        return context.get_dummy_value()

    return types.void(A, int64, out, *[int64] * 3), generate


@in_place_of(combine_plain)
def combine(typing: Any, y: Any, K: Any, coefficients: Any, count: Any, h: Any, out: Any) -> Any:
    """Write ``y + h * sum(coefficients[j] * K[j] for j < count)`` into `out`.

    Parameters
    ----------
    y : array of shape (n,)
    K : array of shape (s, n)
        The stages. Those of coefficient 0 are not read.
    coefficients : array of at least `count` entries
    count : int
        Number of stages in the sum, at most s.
    h : float
    out : array of shape (n,)
        May be `y`; shares no memory with the rest.
    """
    check(y, coefficients, out, dimensions=1)
    check(K, dimensions=2)
    return types.void(y, K, coefficients, int64, float64, out), functools.partial(stages, added=True)


@in_place_of(weighted_plain)
def weighted(typing: Any, K: Any, coefficients: Any, count: Any, h: Any, out: Any) -> Any:
    """Write ``h * sum(coefficients[j] * K[j] for j < count)`` into `out`.

    Parameters
    ----------
    K, coefficients, count, h, out
        As for `combine`.
    """
    check(coefficients, out, dimensions=1)
    check(K, dimensions=2)
    return types.void(K, coefficients, int64, float64, out), functools.partial(stages, added=False)
