"""The state of one import: tensors made so far, what they still owe, and the steps that every layer shares."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.division import divide
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.quantizers import Steps
from edgeflow.ir.graph import Op
from edgeflow.ir.types import Dyadic, IntArray, Shape, frozen_array
from edgeflow.ops.requant import LARGEST_SHIFT, Requant, Rounding, Stage
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.verify import LARGEST_TENSOR

FLOAT32_EXACT = 1 << 24


@dataclass(frozen=True)
class Terms:
    """The float32 numbers that Keras adds up to get a tensor that only one layer reads.

    A quantizer computes x + (q - x). When an Add is its only reader, TensorFlow's graph optimizer may flatten
    both into one sum and reorder it, so the Add's sums are exact only while every order is: all terms are
    multiples of 2**-frac (None: of no such unit) and their absolute values add up to `reach`.
    """

    frac: int | None
    reach: float


OFF_GRID = Terms(None, np.inf)


@dataclass(frozen=True)
class Value:
    """A Keras tensor as an integer tensor of the graph, and what separates the two.

    The Keras value is the integers by their label, divided by `divisor` (an average pool's counts, which
    broadcasts against the tensor). With `unquantized` it is a raw model input: the integers are those that
    this quantizer will give.
    """

    tensor: str
    divisor: IntArray | None = None
    unquantized: Steps | None = None
    pool: Layer | None = None
    terms: Terms | None = None


class Importer:
    """Adds nodes to a graph on behalf of Keras layers."""

    def __init__(self, name: str) -> None:
        self.builder = GraphBuilder(name)

    def shape(self, value: Value) -> Shape:
        """The tensor's shape, without the batch axis."""
        return self.builder.type(value.tensor).shape

    def frac(self, tensor: str) -> IntArray:
        """The tensor's label: shape () when one unit serves all, else one entry a channel."""
        label = self.builder.label(tensor)
        assert isinstance(label, Dyadic)
        return np.asarray(label.frac, dtype=np.int64)

    def reach(self, tensor: str) -> IntArray:
        """The largest absolute value of each channel, shape (channels,) or (1,)."""
        bounds = self.builder.bounds(tensor)
        largest = np.maximum(np.abs(bounds.lo), np.abs(bounds.hi))
        return largest.max(axis=tuple(range(largest.ndim - 1)))

    def add(self, op: Op, inputs: tuple[str, ...], frac: IntArray, layer: Layer, name: str | None = None) -> str:
        """Adds a node; returns its tensor. Raises Unsupported when it would hold more than 2**24 elements."""
        tensor = self.builder.add(op, inputs, label(frac), layer.name, name)
        if self.builder.type(tensor).size > LARGEST_TENSOR:
            raise Unsupported("its result holds more than 2^24 elements", where=layer.where, fix="make it smaller")
        return tensor

    def settle(self, value: Value, layer: Layer) -> str:
        """A tensor that *is* the Keras value by its label, for a layer that reads it.

        Raises Unsupported for a raw input and for an average that no power of two can hold.
        """
        if value.unquantized is not None:
            raise Unsupported(
                f"it reads the raw input '{value.tensor}', whose other reader quantizes it",
                where=layer.where,
                fix="let every layer read the QActivation that follows the input",
            )
        if value.divisor is None:
            return value.tensor
        if (value.divisor & (value.divisor - 1)).any():
            assert value.pool is not None
            raise Unsupported(
                f"its average over {_spread(value.divisor)} elements is no multiple of a power of two, and "
                f"layer '{layer.name}' reads it unquantized",
                where=value.pool.where,
                fix='put QActivation("quantized_bits(8, 2, alpha=1)") or quantized_relu right after it',
            )
        most = int(value.divisor.max()).bit_length() - 1
        pre = most - _log2(value.divisor)
        return self.shift_left(value.tensor, pre, self.frac(value.tensor) + most, layer)

    def one_unit(self, value: Value, layer: Layer) -> str:
        """As `settle`, and one unit serves the whole tensor."""
        tensor = self.settle(value, layer)
        frac = self.frac(tensor)
        return tensor if frac.ndim == 0 else self.align(tensor, frac.max(), layer)

    def align(self, tensor: str, frac: IntArray, layer: Layer) -> str:
        """The same values in the finer unit `frac` (scalar or one a channel): an exact left shift."""
        return self.shift_left(tensor, np.asarray(frac) - self.frac(tensor), np.asarray(frac), layer)

    def shift_left(self, tensor: str, by: IntArray, frac: IntArray, layer: Layer) -> str:
        """Adds `tensor << by` labelled `frac`, unless it changes nothing."""
        if not by.any():
            return tensor
        if by.max() > LARGEST_SHIFT:
            raise Unsupported(
                "its channels or inputs differ by more than 2^61 in scale", where=layer.where, fix="use alpha=1"
            )
        bounds = self.builder.bounds(tensor)
        wide = bounds.lo.astype(object) * (1 << by.astype(object)), bounds.hi.astype(object) * (1 << by.astype(object))
        lo, hi = min(wide[0].min(), 0), max(wide[1].max(), 0)
        if max(-lo, hi) >= FLOAT32_EXACT << 32:
            raise Unsupported("its channels or inputs differ too much in scale", where=layer.where, fix="use alpha=1")
        op = requant(pre=by, shift=np.asarray(0), rounding=Rounding.FLOOR, lo=int(lo), hi=int(hi))
        return self.add(op, (tensor,), frac, layer, f"{tensor}_aligned")

    def quantize(self, value: Value, steps: Steps, layer: Layer, name: str) -> Value:
        """Applies an activation quantizer; adds no node where it changes no integer and no unit."""
        if value.unquantized is not None:
            if value.unquantized != steps:
                raise Unsupported(
                    f"the input '{value.tensor}' is quantized in two different ways",
                    where=layer.where,
                    fix="quantize the input once and branch behind the QActivation",
                )
            return replace(value, unquantized=None, terms=OFF_GRID)
        if value.divisor is not None:
            op = divide(value.divisor, self.frac(value.tensor), self.builder.bounds(value.tensor), steps, layer.where)
            return Value(self.add(op, (value.tensor,), np.asarray(steps.unit), layer, name), terms=OFF_GRID)
        self._reject_lossy_through(value.tensor, steps, layer)
        terms = self._terms(value.tensor, steps)
        shift = self.frac(value.tensor) - steps.frac
        kind = self.builder.type(value.tensor)
        if not shift.any() and steps.unit == steps.frac and steps.lo <= kind.lo and kind.hi <= steps.hi:
            return replace(value, terms=terms)
        if shift.min() < -LARGEST_SHIFT:
            raise Unsupported("its step is more than 2^61 times finer than its input's", where=layer.where)
        op = requant(
            pre=np.maximum(-shift, 0),
            shift=np.clip(shift, 0, LARGEST_SHIFT),
            rounding=Rounding.HALF_EVEN,
            lo=steps.lo,
            hi=steps.hi,
        )
        return Value(self.add(op, (value.tensor,), np.asarray(steps.unit), layer, name), terms=terms)

    def _terms(self, tensor: str, steps: Steps) -> Terms:
        """|x| + |q - x| is at most twice the larger of both; a relu clips x to its own range first."""
        frac = self.frac(tensor)
        largest = float(np.ldexp(max(-steps.lo, steps.hi), -steps.unit))
        if steps.straight_through:
            largest = max(largest, float(np.ldexp(self.reach(tensor).astype(np.float64), -frac).max()))
        return Terms(max(int(frac.max()), steps.unit), 2 * largest)

    def sum_terms(self, values: tuple[Value, ...], tensors: tuple[str, ...], layer: Layer) -> Terms:
        """The terms of an Add over `tensors`. Raises Unsupported when some order of the sum is not exact."""
        parts: list[Terms] = []
        for value, tensor in zip(values, tensors, strict=True):
            frac = self.frac(tensor)
            alone = Terms(int(frac.max()), float(np.ldexp(self.reach(tensor).astype(np.float64), -frac).max()))
            parts.append(value.terms or alone)
        grids = [part.frac for part in parts if part.frac is not None]
        if len(grids) < len(parts):
            raise Unsupported(
                "it alone reads a quantized input or average, and TensorFlow may then reorder the float32 sum, "
                "which is not exact",
                where=layer.where,
                fix="repeat that QActivation once more in front of it: this costs nothing and keeps the order",
            )
        total = Terms(max(grids), sum(part.reach for part in parts))
        self.reject_beyond_float32(int(np.ldexp(total.reach, max(grids))), layer)
        return total

    def _reject_lossy_through(self, tensor: str, steps: Steps, layer: Layer) -> None:
        """x + (q - x) is q when both fit one 24-bit grid; q - x is never longer than the longer of the two."""
        if not steps.straight_through:
            return
        frac = self.frac(tensor)
        finest = np.maximum(frac, steps.unit)
        largest = np.maximum(
            np.ldexp(self.reach(tensor).astype(np.float64), finest - frac),
            np.ldexp(float(max(-steps.lo, steps.hi)), finest - steps.unit),
        )
        if largest.max() > FLOAT32_EXACT:
            raise Unsupported(
                f"QKeras' float32 cannot hold this quantizer's result exactly: its input spans "
                f"{np.log2(largest.max()):.1f} bits in units of its step, above 24",
                where=layer.where,
                fix="use fewer fractional bits here, or quantized_relu, which has no such limit",
            )

    def reject_beyond_float32(self, reach: int, layer: Layer) -> None:
        """Refuses an accumulation that QKeras' own float32 may round."""
        if reach > FLOAT32_EXACT:
            raise Unsupported(
                f"its sums can reach 2^{np.log2(float(reach)):.1f} steps, and QKeras' float32 is exact only up to 2^24",
                where=layer.where,
                fix="use fewer bits for its weights, its bias or its input",
            )


def requant(
    *, pre: IntArray, shift: IntArray, rounding: Rounding, lo: int, hi: int, multiplier: IntArray | int = 1
) -> Requant:
    """A one-stage Requant; arrays collapse to one element where all are equal."""
    return Requant(
        pre=parameter(pre),
        multiplier=parameter(multiplier),
        stages=(Stage(parameter(shift), rounding),),
        offset=parameter(0),
        lo=parameter(lo),
        hi=parameter(hi),
    )


def parameter(values: IntArray | int) -> IntArray:
    """A Requant parameter: shape (1,) when all entries are equal."""
    array = np.atleast_1d(np.asarray(values, dtype=np.int64))
    return frozen_array(array.reshape(-1)[:1] if (array == array.flat[0]).all() else array)


def label(frac: IntArray) -> Dyadic:
    """One frac for the tensor where all channels agree, else one a channel."""
    flat = [int(one) for one in np.atleast_1d(frac)]
    return Dyadic(flat[0] if len(set(flat)) == 1 else tuple(flat))


def _log2(powers: IntArray) -> IntArray:
    return np.rint(np.log2(powers.astype(np.float64))).astype(np.int64)


def _spread(counts: IntArray) -> str:
    lo, hi = int(counts.min()), int(counts.max())
    return str(lo) if lo == hi else f"{lo} to {hi}"
