"""What came out: one frozen record for every integrator, closed form and backend."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from . import checks, costs, critical
from .costs import Cost
from .network import balances
from .typing import Array, ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CLOSED", "KEEP_BYTES", "ContinuationError", "Trajectory"]

CLOSED = ("exact", "modes")  # forms that know every time from the start alone
KEEP_BYTES = 2**29  # layers at all saved times are kept up to this size unless asked otherwise

# at(t) from the layers at an earlier time: (weights, their time, later times) -> layers at those times
Continue = Callable[[tuple[Array, ...], float, Array], list[Array]]


class ContinuationError(RuntimeError):
    """A flow that cannot be continued to a time from what is known of it."""


class Lift(Protocol):
    """Layers of the network from those of the smaller one that it was integrated as, over leading axes."""

    @property
    def bases(self) -> tuple[Array, ...]:
        """Orthonormal bases of the hidden layers."""

    def __call__(self, layers: Sequence[Array], /) -> tuple[Array, ...]:
        """The layers."""

    def curved(self, layers: Sequence[Array]) -> list[Array]:
        """Layers of the smaller network at one time, where its least curvature is that of the network."""

    def sizes(self, layers: Sequence[Array]) -> list[Array]:
        """Squared Frobenius norms of the layers."""

    def imbalances(self, layers: Sequence[Array]) -> list[Array]:
        """Frobenius norms of the balance matrices."""


class _Kept:
    """Layers as they were given, or by a function that is called when they are first asked for."""

    def __get__(self, run: Trajectory | None, owner: type | None = None) -> tuple[Array, ...] | None:
        if run is None:
            raise AttributeError("weights")
        value: Any = vars(run)["weights"]
        if callable(value):
            value = vars(run)["weights"] = tuple(_frozen(W) for W in value())
        return value

    def __set__(
        self, run: Trajectory, value: tuple[Array, ...] | Callable[[], tuple[Array, ...]] | None
    ) -> None:
        vars(run)["weights"] = value


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory:
    r"""A path of the network: what was computed at the saved times, and how.

    Attributes
    ----------
    t : ndarray, shape (T,)
        Saved times, in gradient-flow time (learning rate times steps for descent).
    end_to_end : ndarray, shape (T, n_L, n_0)
        A(t).
    weights : tuple of ndarray, each (T, n_l, n_{l-1}), or None
        The layers; None where they were not kept. Of a run in fewer numbers they are computed when first asked for.
    cost_function : Cost
        The cost C.
    depth : int
        Number of layers.
    weight_decay : float
        lambda in the objective C(A) + (lambda/2) |theta|^2.
    status : str
        "finished", "cost", "gradient_norm", "rank", "saddle" (success), or "max_steps", "underflow", "not_finite",
        "stationary", "at_rest", "interrupted", "failed".
    message : str
        The status as a sentence that says what to change where something went wrong.
    nfev, n_steps : int
        Evaluations of the velocity; accepted steps.
    method, form : str
        How it was computed.
    form_error : float
        Estimated bound of :math:`\sup_t \|A_{form}(t) - A(t)\|_F` beside the errors of integration; 0 for exact forms,
        inf where the run was interrupted before it was known.
    state_size : int
        Length of the integrated state.
    stats : mapping
        Other counts, such as rejected steps.
    steps : ndarray
        Where the accepted steps of a flow ended, the last one past `t` if `until` is met within it; empty where there
        are none (closed forms, descent).
    reduced : Trajectory or None
        The run of the smaller network that stood for this one (`form` "gram" or "subspace"): same A, cost, objective.
    """

    t: Array
    end_to_end: Array
    cost_function: Cost
    depth: int
    weights: _Kept = _Kept()  # required, too
    weight_decay: float = 0.0
    status: str = "finished"
    message: str = ""
    nfev: int = 0
    n_steps: int = 0
    method: str = ""
    form: str = "weights"
    form_error: float = 0.0
    state_size: int = 0
    stats: Mapping[str, Any] = field(default_factory=dict)
    t_start: float = 0.0
    start: tuple[Array, ...] = ()  # the layers at t_start, also where `weights` is None
    extrema: Array = field(
        default_factory=lambda: np.empty((0, 3))
    )  # turns of log rate: time, log rate, objective
    steps: Array = field(default_factory=lambda: np.empty(0))
    measured: Array | None = None  # (T, 3) cost, objective, dissipation where weights is None
    continue_from: Continue | None = None
    reduced: Trajectory | None = None
    lift: Lift | None = None  # from the layers of `reduced`

    def __post_init__(self) -> None:
        for name in ("t", "end_to_end", "extrema", "steps", "measured"):
            if (values := getattr(self, name)) is not None:
                values.setflags(write=False)
        layers = vars(self)["weights"]
        for values in (*(() if layers is None or callable(layers) else layers), *self.start):
            values.setflags(write=False)

    @property
    def success(self) -> bool:
        """Whether the run ended as it was asked to."""
        return self.status in ("finished", "cost", "gradient_norm", "rank", "saddle")

    @cached_property
    def cost(self) -> Array:
        """C(A) at the saved times, shape (T,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            return _frozen(self.cost_function.raw_value(self.end_to_end))

    @cached_property
    def objective(self) -> Array:
        """C(A) + (weight_decay/2) |theta|^2 at the saved times, shape (T,)."""
        if self.weight_decay == 0.0:
            return self.cost
        if self.reduced is not None:
            return self.reduced.objective
        if self.weights is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                size = sum(np.sum(W**2, axis=(-2, -1)) for W in self.weights)
                return _frozen(self.cost + 0.5 * self.weight_decay * size)
        return _frozen(self._measured()[:, 1])

    @cached_property
    def gradient_norm(self) -> Array:
        """Frobenius norm of the gradient of the objective with respect to the weights, shape (T,)."""
        if self.reduced is not None:
            return self.reduced.gradient_norm
        if self.weights is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                return _frozen(critical.gradient_norm(self.cost_function, self.weights, self.weight_decay))
        return _frozen(np.sqrt(self._measured()[:, 2]))

    def _measured(self) -> Array:
        if self.measured is None:
            raise ValueError(
                "`weights` must have been kept for this quantity, got None. Run again with keep_weights=True."
            )
        return self.measured

    @cached_property
    def singular_values(self) -> Array:
        """Singular values of A at the saved times, shape (T, min(n_L, n_0)), the largest first."""
        return _frozen(np.linalg.svd(self.end_to_end, compute_uv=False))

    def rank(self, tol: float = 1e-3) -> Array:
        """Number of singular values of A above `tol` times the largest over the whole run, shape (T,)."""
        s = self.singular_values
        return np.sum(s > checks.positive(tol, "tol") * s.max(), axis=1)

    def balancedness(self) -> Array:
        r"""Largest relative imbalance, :math:`\max_l \|D_l\|_F / (\|W_{l+1}\|_F^2 + \|W_l\|_F^2)`, shape (T,)."""
        if self.depth == 1 or self.form == "end_to_end":  # which is the flow of balanced layers
            return np.zeros(len(self.t))
        small = self.reduced
        layers = self.weights if small is None else small.weights
        if layers is None:
            raise ValueError(
                "`weights` must have been kept for this quantity, got None. Run again with keep_weights=True."
            )
        if self.lift is not None:
            sizes, norms = self.lift.sizes(layers), self.lift.imbalances(layers)
        else:
            sizes = [np.sum(W**2, axis=(-2, -1)) for W in layers]
            norms = [np.linalg.norm(D, axis=(-2, -1)) for D in balances(layers)]
        scaled = [
            D / np.maximum(a + b, np.finfo(float).tiny)
            for D, a, b in zip(norms, sizes[:-1], sizes[1:], strict=True)
        ]
        return np.asarray(np.max(scaled, axis=0))

    def at(self, t: ArrayLike) -> Array:
        """A at any times of the run, shape (..., n_L, n_0), right to the tolerance of the run.

        A flow is continued from the last saved time before each t; descent is interpolated between saved iterates.
        """
        if self.reduced is not None:
            return self.reduced.at(t)
        times = self._times(t)
        if self.continue_from is None or self._saved_at(times) is not None:
            index = self._saved_at(times)
            A = self.end_to_end[index] if index is not None else _interpolate(self.t, self.end_to_end, times)
        else:
            from .network import end_to_end

            A = end_to_end(self.continued(times))
        return A.reshape(*np.shape(t), *self.end_to_end.shape[1:])

    def weights_at(self, t: ArrayLike) -> tuple[Array, ...] | None:
        """Layers at any times of the run, each (..., n_l, n_{l-1}); None where the run does not know them."""
        if self.reduced is not None and self.lift is not None:
            small = self.reduced.weights_at(t)
            return None if small is None else self.lift(small)
        times = self._times(t)
        if self.continue_from is not None:
            layers = self.continued(times)
        elif self.weights is not None:
            layers = [_interpolate(self.t, W, times) for W in self.weights]
        else:
            return None
        return tuple(W.reshape(*np.shape(t), *W.shape[1:]) for W in layers)

    def _times(self, t: ArrayLike) -> Array:
        times = np.atleast_1d(checks.array(t, "t")).ravel()
        first = self.t[0] if self.continue_from is None else self.t_start
        if times.min() < first or times.max() > self.t[-1]:
            raise ValueError(
                f"`t` must lie in [{first:g}, {self.t[-1]:g}], got {times.min():g} .. {times.max():g}. "
                "Run further to see more."
            )
        return times

    def _saved_at(self, times: Array) -> Any:
        index = np.searchsorted(self.t, times)
        return index if np.array_equal(self.t[np.minimum(index, len(self.t) - 1)], times) else None

    def continued(self, times: Array) -> list[Array]:
        """Layers at times from t_start on, also beyond the saved ones: each continued from the saved time before it."""
        assert self.continue_from is not None
        result = [np.empty((len(times), *W.shape)) for W in self.start]
        before = (
            np.searchsorted(self.t, times, side="right") - 1
            if self.weights and self.form not in CLOSED
            else np.full(len(times), -1)
        )
        for index in np.unique(before):
            mine = np.flatnonzero(before == index)
            later, back = np.unique(times[mine], return_inverse=True)
            if index < 0 or self.weights is None:
                origin, since = self.start, self.t_start
            else:
                origin, since = tuple(W[index] for W in self.weights), float(self.t[index])
            for W, part in zip(result, self.continue_from(origin, since, later), strict=True):
                W[mine] = part[back]
        return result

    def plot(self, ax: Axes | None = None) -> Axes:
        """Singular values of A against time, the plateaus shaded and labelled with their rank; returns the axes."""
        from .plotting import plot_trajectory

        return plot_trajectory(self, ax)

    def to_xarray(self) -> Any:
        """The run as an `xarray.Dataset` with coordinate ``t`` (needs the extra ``xarray``)."""
        try:
            import xarray
        except ImportError as error:
            raise ImportError("to_xarray needs the package xarray. Install dln[xarray].") from error
        data = {
            "end_to_end": (("t", "output", "input"), self.end_to_end),
            "singular_values": (("t", "mode"), self.singular_values),
            "cost": (("t",), self.cost),
        }
        for l, W in enumerate(self.weights or (), start=1):
            data[f"W_{l}"] = (("t", f"n_{l}", f"n_{l - 1}"), W)
        notes = {name: getattr(self, name) for name in _SCALARS}
        return xarray.Dataset(data, coords={"t": self.t}, attrs=notes)

    def save(self, path: str | Path) -> None:
        """Write the run to one .npz file without pickles. A Custom cost is not written."""
        arrays: dict[str, Any] = {
            name: getattr(self, name) for name in ("t", "end_to_end", "extrema", "steps")
        }
        small = self.reduced
        kept = self.weights if small is None else small.weights
        layers = {"weights": kept or (), "start": self.start}
        if small is not None and self.lift is not None:
            layers |= {"small": small.start, "basis": self.lift.bases}
        for kind, some in layers.items():
            arrays |= {f"{kind}_{l}": W for l, W in enumerate(some)}
        if self.measured is not None:
            arrays["measured"] = self.measured
        arrays |= {f"cost_{name}": getattr(self.cost_function, name) for name in self.cost_function.arguments}
        header = {name: getattr(self, name) for name in _SCALARS}
        header["stats"] = dict(self.stats)
        header["lifted"] = small is not None and vars(self)["weights"] is not None
        header["cost"] = {"name": type(self.cost_function).__name__, "scale": self.cost_function.scale}
        target = checks.path(path, "path")
        if target.suffix != ".npz":
            target = target.with_name(target.name + ".npz")
        if checks.is_folder(Path(path)) or checks.is_folder(target) or not checks.is_folder(target.parent):
            raise OSError(
                f"`path` must be a file in a folder that exists, got {str(path)!r}. Make the folder first."
            )
        np.savez_compressed(target, header=np.array(json.dumps(header)), allow_pickle=False, **arrays)

    @staticmethod
    def load(path: str | Path, *, cost: Cost | None = None) -> Trajectory:
        """Read a run that `save` wrote; give `cost` if it was a Custom one."""
        source = checks.path(path, "path")
        if (
            source.name
            and not checks.is_file(source)
            and checks.is_file(source.with_name(source.name + ".npz"))
        ):
            source = source.with_name(source.name + ".npz")
        if not checks.is_file(source):
            raise FileNotFoundError(
                f"`path` must be a file, got {str(source)!r}, which does not exist. Check the name."
            )
        if cost is not None and not isinstance(cost, Cost):
            raise TypeError(
                f"`cost` must be a cost from dln.costs, got {type(cost).__name__}. Give the one of the run."
            )
        refusal = f"`path` must be a file that Trajectory.save wrote, got {str(source)!r}"
        try:
            with source.open("rb") as file:
                arrays = dict(np.load(file, allow_pickle=False))
            header = json.loads(str(arrays["header"]))
            kind = header["cost"]["name"]
        except Exception as error:
            raise ValueError(f"{refusal}, which cannot be read as such. Save the run again.") from error
        if cost is None and kind not in costs.ALL:
            raise ValueError(f"`cost` must be a known kind, got {kind!r}. Pass cost=...")
        if cost is None and kind == "Custom":
            raise ValueError(
                "`cost` must be given to load a trajectory of a Custom cost, got None. Pass cost=..."
            )
        if cost is not None and type(cost).__name__ != kind:
            raise ValueError(
                f"`cost` must be a {kind} like that of the run, got {cost!r}. Give the same cost."
            )
        try:
            return _assembled(arrays, header, cost)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{refusal}, of which a part is missing or wrong ({error}). Save the run again."
            ) from error

    def __repr__(self) -> str:
        n_L, n_0 = self.end_to_end.shape[1:]
        return (
            f"Trajectory({len(self.t)} times in [{self.t[0]:g}, {self.t[-1]:g}], depth {self.depth}, A {n_L}x{n_0}, "
            f"cost {self.cost[0]:.3g} -> {self.cost[-1]:.3g}, {self.status})"
        )

    def _repr_html_(self) -> str:
        rows = {
            "times": f"{len(self.t)} in [{self.t[0]:g}, {self.t[-1]:g}]",
            "network": f"depth {self.depth}, end-to-end {self.end_to_end.shape[1]}x{self.end_to_end.shape[2]}",
            "cost": f"{self.cost[0]:.4g} to {self.cost[-1]:.4g}",
            "singular values at the end": ", ".join(f"{s:.3g}" for s in self.singular_values[-1][:6]),
            "method": f"{self.method}, {self.n_steps} steps, {self.nfev} velocities",
            "status": f"{self.status}: {self.message}",
        }
        body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
        return f"<table><caption>Trajectory</caption>{body}</table>"


_SCALARS = (
    "depth", "weight_decay", "status", "message", "nfev", "n_steps", "method", "form", "form_error", "state_size",
    "t_start",
)  # fmt: skip


def _frozen(values: Any) -> Array:
    result = np.asarray(values)
    result.setflags(write=False)
    return result


def _interpolate(t: Array, values: Array, times: Array) -> Array:
    """Linear interpolation between saved values."""
    right = np.clip(np.searchsorted(t, times), 1, len(t) - 1) if len(t) > 1 else np.zeros(len(times), int)
    if len(t) == 1:
        return values[right]
    left = right - 1
    share = ((times - t[left]) / (t[right] - t[left])).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray((1 - share) * values[left] + share * values[right])


def _assembled(arrays: Mapping[str, Any], header: dict[str, Any], cost: Cost | None) -> Trajectory:
    """The trajectory of checked parts of a file."""
    from .flow import continuation

    record, lifted = header.pop("cost"), header.pop("lifted", False)
    if cost is None:
        kind = costs.ALL[record["name"]]
        values = [arrays[f"cost_{name}"] for name in kind.arguments]
        cost = kind(*(int(v) if v.ndim == 0 else v for v in values))  # type: ignore[arg-type]
        cost.scale = checks.positive(record["scale"], "scale")
    t = checks.array(arrays["t"], "t", ndim=1)
    end_to_end = checks.array(arrays["end_to_end"], "end_to_end", ndim=3)
    n_L, n_0 = end_to_end.shape[1:]
    layers: dict[str, tuple[Array, ...]] = {}
    for kind_, batch in (("weights", True), ("start", False), ("small", False)):
        found = [arrays[f"{kind_}_{l}"] for l in range(header["depth"]) if f"{kind_}_{l}" in arrays]
        layers[kind_] = tuple(checks.layers(found, kind_, batch=batch)) if found or kind_ == "start" else ()
        shape = (layers[kind_][-1].shape[-2], layers[kind_][0].shape[-1]) if layers[kind_] else (n_L, n_0)
        if shape != (n_L, n_0) or (layers[kind_] and len(layers[kind_]) != header["depth"]):
            raise ValueError(f"{kind_} does not fit the end-to-end matrix")
    if (
        len(end_to_end) != len(t)
        or any(len(W) != len(t) for W in layers["weights"])
        or (np.diff(t) <= 0).any()
    ):
        raise ValueError("times and states do not fit each other")
    if cost.shape is not None and cost.shape != (n_L, n_0):
        raise ValueError(f"`cost` must have shape {(n_L, n_0)}, that of the run, got {cost.shape}")
    extrema = np.array(arrays["extrema"], dtype=np.float64)
    if extrema.ndim != 2 or extrema.shape[1] != 3:
        raise ValueError("extrema must have three columns")
    onward: Continue | None
    if header["form"] in CLOSED:
        from . import exact

        onward = exact.continuation(
            header["method"], cost, layers["start"], header["weight_decay"], header["t_start"]
        )
    else:
        onward = continuation(cost, header["weight_decay"], header["method"], header["stats"])
    run = Trajectory(
        t=t,
        end_to_end=end_to_end,
        weights=layers["weights"] or None,
        start=layers["small"] or layers["start"],
        cost_function=cost,
        extrema=extrema,
        steps=np.array(arrays.get("steps", ()), dtype=np.float64),
        measured=arrays.get("measured"),
        continue_from=onward,
        **header,
    )
    if not layers["small"]:
        return run
    from .form import Lift

    bases = tuple(checks.array(arrays[f"basis_{l}"], "basis", ndim=2) for l in range(header["depth"] - 1))
    return Lift(bases, layers["start"], layers["small"]).lifted(run, lifted)
