"""The state of one import: tensors made so far, what they still owe, and the steps that every layer shares."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras import stairs
from edgeflow.frontends.qkeras.division import divide
from edgeflow.frontends.qkeras.doubts import Doubt
from edgeflow.frontends.qkeras.exactness import float32_agrees
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.quantizers import Activation, Curve, Relu, Steps
from edgeflow.frontends.qkeras.values import OFF_GRID, RealMap, Terms, Value
from edgeflow.ir.graph import Meaning, Op
from edgeflow.ir.types import Dyadic, IntArray, Shape, frozen_array
from edgeflow.ops.linear import per_channel
from edgeflow.ops.lut import Lut
from edgeflow.ops.requant import LARGEST_SHIFT, Requant, Rounding, Stage
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.verify import LARGEST_TENSOR

FLOAT32_EXACT = 1 << 24
_SMALL_TABLE = 256
_CHUNK = 1 << 20
_NO_CLIP = (None, None)


class Importer:
    """Adds nodes to a graph on behalf of Keras layers."""

    def __init__(self, name: str) -> None:
        self.builder = GraphBuilder(name)
        self.doubts: list[Doubt] = []
        self._rounded: set[str] = set()

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
        if value.real is not None:
            return self._settle_real(value, value.real, layer)
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

    def rounds(self, tensor: str) -> str:
        """Notes that float32 rounds the sums of `tensor`, which real factors make of exact values; gives it back."""
        self._rounded.add(tensor)
        return tensor

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

    def activate(self, value: Value, activation: Activation | None, layer: Layer, name: str) -> Value:
        """Applies any activation; `name` is for the tensor that it makes."""
        match activation:
            case None:
                return value
            case Relu():
                return self.relu(value, activation, layer, name)
            case Steps() if value.real is None:
                return self.quantize(value, activation, layer, name)
            case _ if value.unquantized is not None:
                raise Unsupported(
                    "the input's own quantizer is not a plain one",
                    where=layer.where,
                    fix='quantize the input with QActivation("quantized_bits(8, 0, alpha=1)") first',
                )
            case _:
                owed = self.owed(value, layer)
                if owed is None and isinstance(activation, Curve):
                    return self._curve(value, activation, layer, name)
                return self._stairs(value, owed or RealMap((Fraction(1),), (Fraction(0),)), activation, layer, name)

    def owed(self, value: Value, layer: Layer) -> RealMap | None:
        """What stands between the integers and the Keras value, as a real map; None when nothing does.

        Raises Unsupported for a raw input and for an average that divides by different counts.
        """
        if value.unquantized is not None:
            self.settle(value, layer)
        if value.divisor is None:
            return value.real
        if value.divisor.size > 1:
            raise Unsupported(
                "it follows an average pool with padding='same', whose edges divide by other counts",
                where=layer.where,
                fix="put a QActivation right behind the pool, or use padding='valid'",
            )
        return RealMap((Fraction(1, int(value.divisor.flat[0])),), (Fraction(0),))

    def relu(self, value: Value, relu: Relu, layer: Layer, name: str) -> Value:
        """Keras' own ReLU: exact on integers, or left to the next quantizer behind a real map."""
        if relu.slope:
            raise Unsupported(
                f"a ReLU with a negative slope of {float(relu.slope):g} is not supported",
                where=layer.where,
                fix="use quantized_relu with negative_slope, a power of two",
            )
        if value.unquantized is not None:
            self.settle(value, layer)
        frac = self.frac(value.tensor)
        top = None if relu.most is None else [relu.most * Fraction(2) ** int(one) for one in np.atleast_1d(frac)]
        whole = top is None or all(one.denominator == 1 for one in top)
        if value.real is not None or (value.divisor is not None and top is not None) or not whole:
            real = self.owed(value, layer) or RealMap((Fraction(1),), (Fraction(0),))
            least = max(real.least, Fraction(0)) if real.least is not None else Fraction(0)
            mosts = [one for one in (real.most, relu.most) if one is not None]
            most = max(min(mosts), least) if mosts else None
            return replace(value, divisor=None, real=replace(real, least=least, most=most), terms=None)
        bounds = self.builder.bounds(value.tensor)
        ends = np.array([int(bounds.hi.max())] if top is None else [min(int(one), 1 << 61) for one in top])
        if int(bounds.lo.min()) >= 0 and (top is None or (bounds.hi <= ends).all()):
            return replace(value, terms=None)
        op = replace(_copy(), lo=frozen_array([0]), hi=parameter(np.maximum(ends, 0)))
        return replace(value, tensor=self.add(op, (value.tensor,), frac, layer, name), terms=None)

    def _curve(self, value: Value, curve: Curve, layer: Layer, name: str) -> Value:
        """An activation of exact integers, with QKeras' own float32 arithmetic as the judge."""
        tensor = value.tensor
        if int(self.reach(tensor).max()) > FLOAT32_EXACT:
            raise Unsupported(
                f"{curve.name} reads more than 24 bits", where=layer.where, fix="use fewer bits in front of it"
            )
        terms = OFF_GRID if curve.straight_through else None
        kind, frac = self.builder.type(tensor), self.frac(tensor)
        for one in np.unique(frac):
            _reject_lost_bits(curve, int(one), kind.lo, kind.hi, layer)
        if frac.ndim == 0 and kind.hi - kind.lo < _SMALL_TABLE:
            table = curve.float32(np.ldexp(np.arange(kind.lo, kind.hi + 1).astype(np.float32), -frac))
            op = Lut(frozen_array(table), kind.lo)
            return Value(self.add(op, (tensor,), np.asarray(curve.unit), layer, name), terms=terms)
        found, at = self._reached(tensor, RealMap((Fraction(1),), (Fraction(0),)), curve, layer)
        _reject_other_float32(curve, found, at, np.broadcast_to(frac, at.lo.shape), layer)
        return replace(self._count(tensor, found, at, curve.unit, layer, name), terms=terms)

    def _stairs(self, value: Value, real: RealMap, activation: Steps | Curve, layer: Layer, name: str) -> Value:
        """An activation behind a real map: one Requant where one gives every step, else thresholds."""
        found, at = self._reached(value.tensor, real, activation, layer)
        if isinstance(activation, Steps):
            self._reject_far(value.tensor, real, activation, layer)
        holds = self._float32_holds(value.tensor, real, found, at, activation)
        scale, shift = self._units(value.tensor, real)
        op = stairs.as_requant(found, at, scale)
        if op is None:
            result = self._count(value.tensor, found, at, activation.unit, layer, name)
        else:
            result = Value(self.add(op, (value.tensor,), np.asarray(activation.unit), layer, name), terms=OFF_GRID)
        if not holds:
            self.builder.meaning = Meaning.REAL
            self.doubts.append(
                Doubt(result.tensor, value.tensor, scale, shift, real, found, activation, frozenset(self._rounded))
            )
        return result

    def _units(self, tensor: str, real: RealMap) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        """Scale and shift of every channel, a unit of the integers included."""
        channels = self.builder.type(tensor).shape[-1]
        scale, shift = real.channels(channels)
        fracs = np.broadcast_to(self.frac(tensor), (channels,))
        return tuple(one * Fraction(2) ** -int(frac) for one, frac in zip(scale, fracs, strict=True)), shift

    def _reached(
        self, tensor: str, real: RealMap, activation: Steps | Curve, layer: Layer
    ) -> tuple[stairs.Staircase, stairs.Reached]:
        interval = per_channel(self.builder.bounds(tensor), self.builder.type(tensor).shape[-1])
        scale, shift = self._units(tensor, real)
        found = stairs.staircase(activation, layer.where)
        return found, stairs.reach(found, scale, shift, interval, (real.least, real.most))

    def _count(
        self, tensor: str, found: stairs.Staircase, at: stairs.Reached, unit: int, layer: Layer, name: str
    ) -> Value:
        """Thresholds, and a table behind them where the codes do not rise one by one."""
        op = stairs.as_threshold(found, at)
        if (np.diff(found.codes) == 1).all():
            return Value(self.add(op, (tensor,), np.asarray(unit), layer, name), terms=OFF_GRID)
        index = self.add(op, (tensor,), np.asarray(0), layer, f"{name}_index")
        table = Lut(frozen_array(found.codes), 0)
        return Value(self.add(table, (index,), np.asarray(unit), layer, name), terms=OFF_GRID)

    def _float32_holds(
        self, tensor: str, real: RealMap, found: stairs.Staircase, at: stairs.Reached, activation: Steps | Curve
    ) -> bool:
        """Whether float32 computes scale * x + shift exactly, and from there the activation as real arithmetic does."""
        exact = self._dyadic(tensor, real)
        return exact is not None and float32_agrees(exact, (real.least, real.most), found, at, activation)

    def _reject_far(self, tensor: str, real: RealMap, steps: Steps, layer: Layer) -> None:
        """x + (q - x) in float32 is q only while x is below 2**24 steps."""
        if not steps.straight_through:
            return
        reach = self._real_reach(tensor, real)
        if real.least == 0 and real.most is not None:
            reach = min(reach, float(real.most))
        if reach > np.ldexp(float(FLOAT32_EXACT), -steps.unit):
            raise Unsupported(
                f"QKeras' float32 cannot hold this quantizer's result exactly: its input reaches {reach:.3g}, "
                "above 2^24 of its steps",
                where=layer.where,
                fix="give it more integer bits, or use quantized_relu, which has no such limit",
            )

    def _real_reach(self, tensor: str, real: RealMap) -> float:
        """The largest |scale| * |x| + |shift| of all channels."""
        scale, shift = self._units(tensor, real)
        reach = np.broadcast_to(self.reach(tensor), (len(scale),)).tolist()
        return max(float(abs(a) * n + abs(b)) for a, b, n in zip(scale, shift, reach, strict=True))

    def _dyadic(self, tensor: str, real: RealMap) -> tuple[IntArray, IntArray, IntArray] | None:
        """(multiplier, bias, frac) a channel when the map is exact on integers that float32 holds, else None."""
        if not real.exact:
            return None
        rows: list[tuple[int, int, int]] = []
        reach = np.broadcast_to(self.reach(tensor), (self.builder.type(tensor).shape[-1],))
        for scale, shift, largest in zip(*self._units(tensor, real), reach, strict=True):
            bottoms = (scale.denominator, shift.denominator)
            if any(one & (one - 1) for one in bottoms):
                return None
            frac = max(bottoms).bit_length() - 1
            multiplier, bias = int(scale * (1 << frac)), int(shift * (1 << frac))
            if abs(multiplier) * int(largest) + abs(bias) > FLOAT32_EXACT:
                return None
            rows.append((multiplier, bias, frac))
        columns = np.array(rows, dtype=np.int64).T
        return columns[0], columns[1], columns[2]

    def _settle_real(self, value: Value, real: RealMap, layer: Layer) -> str:
        """The integers of a map that loses nothing: dyadic factors, and at most a ReLU at 0 behind them."""
        exact = self._dyadic(value.tensor, real)
        if exact is None or real.most is not None or real.least not in (None, 0):
            raise real.unsettled(layer)
        multiplier, bias, frac = exact
        most = 2 * FLOAT32_EXACT
        lo = 0 if real.least == 0 else -most
        op = replace(
            _copy(),
            multiplier=parameter(multiplier),
            bias=parameter(bias),
            lo=frozen_array([lo]),
            hi=frozen_array([most]),
        )
        return self.add(op, (value.tensor,), frac, layer, f"{value.tensor}_scaled")

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
        if value.divisor is not None and steps.offset:
            real = self.owed(value, layer)
            assert real is not None
            return self._stairs(value, real, steps, layer, name)
        if value.divisor is not None:
            op = divide(value.divisor, self.frac(value.tensor), self.builder.bounds(value.tensor), steps, layer.where)
            return Value(self.add(op, (value.tensor,), np.asarray(steps.unit), layer, name), terms=OFF_GRID)
        self._reject_lossy_through(value.tensor, steps, layer)
        self._reject_finer(value.tensor, steps, layer)
        terms = self._terms(value.tensor, steps)
        shift = self.frac(value.tensor) - steps.frac
        kind = self.builder.type(value.tensor)
        plain = not shift.any() and steps.unit == steps.frac and not steps.offset
        if plain and steps.lo <= kind.lo and kind.hi <= steps.hi:
            return replace(value, terms=terms)
        if shift.min() < -LARGEST_SHIFT:
            raise Unsupported("its step is more than 2^61 times finer than its input's", where=layer.where)
        op = requant(
            pre=np.maximum(-shift, 0),
            shift=np.clip(shift, 0, LARGEST_SHIFT),
            rounding=Rounding.HALF_EVEN,
            lo=steps.lo,
            hi=steps.hi,
            offset=steps.offset,
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
            if value.real is not None:
                parts.append(Terms(int(frac.max()), self._real_reach(value.tensor, value.real)))
                continue
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

    def _reject_finer(self, tensor: str, steps: Steps, layer: Layer) -> None:
        """A quantizer that computes 0.5 x + 0.5 first loses what lies below float32's steps near 0.5."""
        if steps.finest is not None and int(self.frac(tensor).max()) > steps.finest:
            raise Unsupported(
                f"its input has {int(self.frac(tensor).max())} fractional bits, and QKeras' float32 keeps "
                f"{steps.finest} here",
                where=layer.where,
                fix="use fewer fractional bits in front of it",
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
    *,
    pre: IntArray,
    shift: IntArray,
    rounding: Rounding,
    lo: int,
    hi: int,
    multiplier: IntArray | int = 1,
    offset: int = 0,
) -> Requant:
    """A one-stage Requant; arrays collapse to one element where all are equal."""
    return Requant(
        pre=parameter(pre),
        multiplier=parameter(multiplier),
        stages=(Stage(parameter(shift), rounding),),
        offset=parameter(offset),
        lo=parameter(lo),
        hi=parameter(hi),
    )


def _copy() -> Requant:
    """A Requant that changes nothing but by the fields that replace its own."""
    return requant(pre=np.asarray(0), shift=np.asarray(0), rounding=Rounding.FLOOR, lo=0, hi=0)


def _reject_lost_bits(curve: Curve, frac: int, lo: int, hi: int, layer: Layer) -> None:
    """Refuses a curve whose float32 result is not the code's value for every integer in [lo, hi]."""
    for start in range(lo, hi + 1, _CHUNK):
        x = np.ldexp(np.arange(start, min(start + _CHUNK, hi + 1)).astype(np.float32), -frac)
        if not curve.held(x).all():
            raise Unsupported(
                f"QKeras' float32 cannot hold the result of {curve.name} exactly for every input",
                where=layer.where,
                fix="use fewer bits in front of it",
            )


def _reject_other_float32(
    curve: Curve, found: stairs.Staircase, at: stairs.Reached, frac: IntArray, layer: Layer
) -> None:
    """Compares every step with float32 on both of its sides: each piece is monotone in float32 as well."""
    for points, lo, hi, one in zip(at.points, at.lo, at.hi, frac, strict=True):
        inside = points[(points > lo) & (points <= hi)]
        trial = np.unique(np.concatenate([inside - 1, inside, [lo, hi]]))
        codes = found.codes[np.searchsorted(points, trial, side="right")]
        if not np.array_equal(curve.float32(np.ldexp(trial.astype(np.float32), -int(one))), codes):
            raise Unsupported(
                f"QKeras' float32 rounds {curve.name} the other way at a step",
                where=layer.where,
                fix="quantize its input to fewer bits first",
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


__all__ = ["FLOAT32_EXACT", "OFF_GRID", "Importer", "RealMap", "Terms", "Value", "label", "parameter", "requant"]
