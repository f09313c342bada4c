"""A Requant spelled as arithmetic, worked through on the ends of its input, and where its rounding meets a tie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeflow.ir.graph import Bounds, Graph, Node
from edgeflow.ir.types import Affine, Dyadic, IntArray, Label, frozen_array
from edgeflow.ops.requant import Requant, Rounding, round_shift
from edgeflow.report.inspect.words import plural
from edgeflow.semantics.labels import to_reals
from edgeflow.semantics.tiefree import Tie, rounding_nodes

ROUNDINGS: Mapping[Rounding, str] = {
    Rounding.FLOOR: "down (floor)",
    Rounding.HALF_UP: "to nearest, a tie up",
    Rounding.HALF_EVEN: "to nearest, a tie to the even neighbour",
    Rounding.HALF_AWAY: "to nearest, a tie away from zero",
}


@dataclass(frozen=True)
class Worked:
    """One element through a Requant: the integer that enters, the numbers between, the integer that leaves.

    `place` is the element's index in the tensor; `shifted` has one entry a rounding stage.
    """

    what: str
    place: tuple[int, ...]
    x: int
    x_real: float
    product: int
    shifted: tuple[int, ...]
    y: int
    y_real: float


@dataclass(frozen=True)
class Arithmetic:
    """A Requant as lines of integer arithmetic (name, formula, remark), where ties can occur, and examples."""

    lines: tuple[tuple[str, str, str], ...]
    ties: str
    examples: tuple[Worked, ...]


def spell(node: Node, op: Requant, graph: Graph, bounds: Mapping[str, Bounds], ties: Sequence[Tie]) -> Arithmetic:
    """The arithmetic of the Requant in `node`; `ties` are those of the whole graph."""
    source = graph.tensor(node.inputs[0])
    known = bounds[source.name]
    shape = source.type.shape
    lowest = np.broadcast_to(known.lo, shape)
    highest = np.broadcast_to(known.hi, shape)
    starts = [
        ("lowest", _index(int(lowest.argmin()), lowest), int(lowest.min())),
        ("highest", _index(int(highest.argmax()), highest), int(highest.max())),
    ]
    worked = [_work(op, node, source.label, *start) for start in starts]
    mine = [one for one in ties if one.node == node.name]
    for one in mine[:1]:
        place = (0,) * (len(shape) - 1) + (one.channel,) if shape else ()
        example = _work(op, node, source.label, "a tie", place, one.value)
        worked += [example] if _is_tie(op, node, example) else []
    rounds = node.name in {one.name for one in rounding_nodes(graph)}
    words = _tie_words(node, mine) if rounds else "none: nothing is rounded to nearest"
    return Arithmetic(tuple(_lines(op)), words, tuple(worked))


def _index(flat: int, array: IntArray) -> tuple[int, ...]:
    return tuple(int(one) for one in np.unravel_index(flat, array.shape))


def _lines(op: Requant) -> Iterator[tuple[str, str, str]]:
    name = "x"
    product = _product(op)
    if product != "x":
        yield "p", product, "".join(_spans(op, ("pre", op.pre), ("m", op.multiplier), ("b", op.bias)))
        name = "p"
    for number, stage in enumerate(op.stages):
        if not stage.shift.any():
            continue
        shift = _symbol("s", stage.shift)
        after = "qr"[number]
        yield after, _shift_words(name, shift, stage.rounding), ROUNDINGS[stage.rounding] + _span("s", stage.shift)
        name = after
    moved = f"{name}{_plus('o', op.offset)}"
    remark = "".join(_spans(op, ("o", op.offset), ("lo", op.lo), ("hi", op.hi)))
    yield "y", f"clamp({moved}, {_symbol('lo', op.lo)}, {_symbol('hi', op.hi)})", remark


def _product(op: Requant) -> str:
    shifted = f"x << {_symbol('pre', op.pre)}" if op.pre.any() else "x"
    factor = f" * {_symbol('m', op.multiplier)}" if (op.multiplier != 1).any() else ""
    rest = factor + _plus("b", op.bias)
    return f"({shifted}){rest}" if op.pre.any() and rest else shifted + rest


def _plus(name: str, array: IntArray) -> str:
    if not array.any():
        return ""
    symbol = _symbol(name, array)
    return f" - {symbol[1:]}" if symbol.startswith("-") else f" + {symbol}"


def _symbol(name: str, array: IntArray) -> str:
    """The number where one serves all elements, else the parameter's letter."""
    return str(int(array.flat[0])) if (array == array.flat[0]).all() else name


def _spans(op: Requant, *named: tuple[str, IntArray]) -> Iterator[str]:
    for name, array in named:
        yield _span(name, array)


def _span(name: str, array: IntArray) -> str:
    """`; s = 4 to 7 by channel` where the parameter is not one number."""
    lo, hi = int(array.min()), int(array.max())
    return (
        "" if lo == hi else f"; {name} = {lo} to {hi} {'by channel' if array.shape[-1] == array.size else 'by place'}"
    )


def _shift_words(x: str, shift: str, rounding: Rounding) -> str:
    half = str(1 << (int(shift) - 1)) if shift.isdigit() else f"2^({shift}-1)"
    match rounding:
        case Rounding.FLOOR:
            return f"{x} >> {shift}"
        case Rounding.HALF_UP:
            return f"({x} + {half}) >> {shift}"
        case Rounding.HALF_EVEN:
            less = f"{half} - 1" if not half.isdigit() else str(int(half) - 1)
            return f"({x} + {less} + (({x} >> {shift}) & 1)) >> {shift}".replace(" + 0 ", " ")
        case Rounding.HALF_AWAY:
            return f"({x} + {half} - ({x} < 0)) >> {shift}"


def _work(op: Requant, node: Node, label: Label, what: str, place: tuple[int, ...], x: int) -> Worked:
    def at(array: IntArray) -> IntArray:
        return np.broadcast_to(array, node.type.shape)[place]

    value = np.int64(x) * (at(op.multiplier) << at(op.pre)) + at(op.bias)
    product, shifted = int(value), list[int]()
    for stage in op.stages:
        value = round_shift(np.asarray(value), at(stage.shift), stage.rounding)
        shifted.append(int(value))
    y = int(np.clip(value + at(op.offset), at(op.lo), at(op.hi)))
    return Worked(what, place, x, _real(x, label, place), product, tuple(shifted), y, _real(y, node.label, place))


def _real(value: int, label: Label, place: tuple[int, ...]) -> float:
    one = label if isinstance(label, Affine) or isinstance(label.frac, int) else Dyadic(label.frac[place[-1]])
    return float(to_reals(frozen_array(value), one))


def _tie_words(node: Node, ties: Sequence[Tie]) -> str:
    if not ties:
        return "none: no input can reach a value half way between two results"
    channels = node.type.shape[-1] if node.type.shape else 1
    where = f" in {plural(len(ties), 'channel')} of {channels}" if channels > 1 else ""
    return f"possible{where}"


def _is_tie(op: Requant, node: Node, one: Worked) -> bool:
    """Whether the only rounding of a worked example drops exactly one half."""
    shift = int(np.broadcast_to(op.stages[0].shift, node.type.shape)[one.place])
    return len(op.stages) == 1 and shift > 0 and one.product % (1 << shift) == 1 << (shift - 1)
