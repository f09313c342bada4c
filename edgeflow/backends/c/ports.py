"""The model's inputs and outputs as the generated header has them, with what turns real values into their integers."""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.backends.c.ctypes import INT32, literal, working_type
from edgeflow.backends.c.lower import Buffer
from edgeflow.ir.types import Affine, Dyadic, Label, TensorType

_FLOAT_EXPONENT = 126
"""The smallest normal number of a C float is 2^-126."""
_FLOAT_INTEGERS = 1 << 24
"""Up to here every integer is a C float."""


@dataclass(frozen=True)
class Scaling:
    """How a real value and a port's integer become each other, as C expressions.

    `units` takes the float `real` to units, which are rounded in `kind` (float or double) within [lo, hi] before
    `zero_point` is added; `reals` takes the integer `value` to a float. Where the unit differs by channel both read
    `table`: a pair of initializers, how many units 1 has and what a unit is. `words` and `words_back` are for people.
    """

    kind: str
    units: str
    reals: str
    lo: int
    hi: int
    zero_point: str
    words: str
    words_back: str
    table: tuple[str, str] | None = None

    @property
    def kind_of_units(self) -> str:
        """The floating type of the expression `units`."""
        return "double" if "(double)" in self.units else "float"

    @property
    def least(self) -> str:
        """The C literal of the lowest number of units."""
        return literal(self.lo)

    @property
    def most(self) -> str:
        """The C literal of the highest number of units."""
        return literal(self.hi)


@dataclass(frozen=True)
class Port:
    """An input or output in the arena, `offset` bytes from its start; real = scale * (unit - zero_point).

    `scale` is a C literal; "" where the unit differs by channel. `scaling` None: no float reaches such units.
    """

    title: str
    ident: str
    offset: int
    ctype: str
    ctype_size: int
    elements: int
    channels: int
    shape: str
    lo: int
    hi: int
    meaning: str
    scale: str
    zero_point: str
    scaling: Scaling | None

    @property
    def least(self) -> str:
        """The C literal of the lowest value."""
        return literal(self.lo)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements * self.ctype_size


def port_of(name: str, ident: str, kind: TensorType, label: Label, buffer: Buffer, offset: int) -> Port:
    """The port of a tensor that lies `offset` bytes from the arena's start."""
    scale, zero_point = _constants(label)
    return Port(
        title=name,
        ident=ident,
        offset=offset,
        ctype=buffer.ctype.name,
        ctype_size=buffer.ctype.size,
        elements=kind.size,
        channels=kind.shape[-1] if kind.shape else 1,
        shape="x".join(str(axis) for axis in kind.shape),
        lo=kind.lo,
        hi=kind.hi,
        meaning=_meaning(label),
        scale=scale,
        zero_point=zero_point,
        scaling=_scaling(kind, label),
    )


def _meaning(label: Label) -> str:
    match label:
        case Dyadic(int() as frac):
            return f"one unit is 2^{-frac}"
        case Dyadic():
            return f"one unit is {label}"
        case Affine(scale, zero_point):
            return f"real value = {scale!r} * {_distance('unit', zero_point)}"


def _distance(value: str, zero_point: int) -> str:
    return f"({value} {'-' if zero_point > 0 else '+'} {abs(zero_point)})" if zero_point else value


def _constants(label: Label) -> tuple[str, str]:
    """Scale and zero point of a label as C literals; empty where no single float holds the scale."""
    match label:
        case Dyadic(int() as frac) if -_FLOAT_EXPONENT <= frac <= _FLOAT_EXPONENT:
            return f"{2.0**-frac!r}f", "0"
        case Affine(scale, zero_point):
            return f"{scale!r}f", f"({zero_point})" if zero_point < 0 else f"{zero_point}"
        case _:
            return "", ""


def _scaling(kind: TensorType, label: Label) -> Scaling | None:
    """What `semantics.labels` does, in C: the same integer for every float.

    A power of two is exact in float. Division by any other scale is rounded, so it is done in double as there.
    """
    zero_point = label.zero_point if isinstance(label, Affine) else 0
    lo, hi = kind.lo - zero_point, kind.hi - zero_point
    if working_type(min(lo, kind.lo), max(hi, kind.hi)) is not INT32:
        return None
    exact = max(-lo, hi) <= _FLOAT_INTEGERS
    value = f"(float){_distance('(int32_t)value', zero_point)}"
    match label:
        case Affine(scale, _):
            back = f"{scale!r} * {_distance('value', zero_point)}"
            words = f"real / {scale!r}, in double"
            shown = f"({zero_point})" if zero_point < 0 else str(zero_point)
            return Scaling("double", f"(double)real / {scale!r}", f"{value} * {scale!r}f", lo, hi, shown, words, back)
        case Dyadic(int() as frac) if abs(frac) <= _FLOAT_EXPONENT:
            units, reals = f"real * {2.0**frac!r}f", f"{value} * {2.0**-frac!r}f"
            words, back = f"real * 2^{frac}", f"value * 2^{-frac}"
            table = None
        case Dyadic(tuple() as fracs) if all(abs(one) <= _FLOAT_EXPONENT for one in fracs):
            units, reals = "real * table[channel]", f"{value} * table[channel]"
            words, back = "real / the channel's unit", "value * the channel's unit"
            table = (_floats(fracs), _floats([-one for one in fracs]))
        case _:
            return None
    return Scaling("float" if exact else "double", units, reals, lo, hi, "0", words, back, table)


def _floats(exponents: tuple[int, ...] | list[int]) -> str:
    return ", ".join(f"{2.0**one!r}f" for one in exponents)
