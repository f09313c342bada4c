"""Operators that move values: PAD, CONCATENATION, STRIDED_SLICE, SPLIT, TRANSPOSE, RESIZE_NEAREST_NEIGHBOR.

TFLite-Micro copies the integers as they are, whatever the output's scale says. What touches the batch is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edgeflow.backends.tflm.moves import MOST_JOINED
from edgeflow.frontends.tflite.arithmetic import AGAIN
from edgeflow.frontends.tflite.importer import Handler, Importer, graph_axis
from edgeflow.frontends.tflite.model import Operator
from edgeflow.ir.graph import Op
from edgeflow.ir.types import Shape
from edgeflow.ops.concat import Concat
from edgeflow.ops.pad import Pad
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.ops.window import Pads

_MOST_REVERSED = 64
"""Elements of an axis that may be turned round: each becomes a Slice."""
_MOST_AXES = {"PAD": 5, "PADV2": 5, "TRANSPOSE": 5, "STRIDED_SLICE": 4}
"""Axes that TFLite-Micro's kernels take, the batch among them; others take more than files have."""
_BATCH = "leave the batch axis alone"


class _Move:
    """An operator that reads one tensor: its graph tensor, and how results are added and defined."""

    def __init__(self, importer: Importer, operator: Operator, source: int) -> None:
        self.importer, self.operator, self.source = importer, operator, source
        self.place = importer.place(operator)
        self.tensor = importer.named(source, self.place)
        self.shape = importer.shape(source)
        self.rank = len(importer.tensor(source).shape)
        self.label = importer.scaled(operator.outputs[0], self.place).label
        most = _MOST_AXES.get(operator.code, self.rank)
        if self.rank > most:
            what = f"its input has {self.rank} axes, TFLite-Micro takes up to {most}"
            raise importer.refuse(operator, what, "reshape it to fewer axes before, and back behind")
        if importer.range(source, operator) != importer.range(operator.outputs[0], operator):
            raise importer.refuse(operator, "its input and its output have different types", "write the file again")

    @property
    def leading(self) -> int:
        """How many axes of the file's tensor the graph's does not have: 1, or 0 for a tensor of one axis."""
        return max(self.rank, 1) - len(self.shape)

    def add(self, op: Op, end: str = "") -> None:
        """The tensor becomes what the op makes of it."""
        self.tensor = self.importer.add(op, (self.tensor,), self.label, self.operator, end=end)
        self.shape = self.importer.builder.type(self.tensor).shape

    def finish(self, output: int | None = None) -> None:
        """The tensor is the operator's output, in the shape that the file gives it."""
        target = self.operator.outputs[0] if output is None else output
        shape = self.importer.shape(target)
        if shape != self.shape and math.prod(shape) == math.prod(self.shape):
            self.add(Reshape(shape), "_shape")
        self.importer.define(target, self.tensor)


def _numbers(importer: Importer, operator: Operator, position: int, shape: Shape | None = None) -> list[int]:
    """The int32 values of a constant input. Raises Unsupported for another type or shape."""
    index = operator.inputs[position]
    tensor = importer.tensor(index)
    if index < 0 or tensor.kind != "INT32":
        raise importer.refuse(operator, f"its input {position} is no int32 constant", "write the file again")
    values = importer.constant(index, operator)
    if shape is not None and values.shape != shape:
        what = f"its input {position} has the shape {values.shape}, not {shape}"
        raise importer.refuse(operator, what, "write the file again")
    return [int(one) for one in values.reshape(-1)]


def _pad(importer: Importer, operator: Operator) -> None:
    """PAD with the zero point (int16: with 0), PADV2 with a value of its own."""
    move = _Move(importer, operator, operator.inputs[0])
    ends = _numbers(importer, operator, 1, (move.rank, 2))
    pairs: Pads = tuple(zip(ends[::2], ends[1::2], strict=True))
    if any(any(pair) for pair in pairs[: move.leading]):
        raise importer.refuse(operator, "it pads the batch axis", _BATCH)
    if any(min(pair) < 0 for pair in pairs):
        raise importer.refuse(operator, "it pads by less than 0", "slice instead")
    grown = tuple(n + sum(pair) for n, pair in zip(importer.tensor(move.source).shape, pairs, strict=True))
    if grown != importer.tensor(operator.outputs[0]).shape:
        raise importer.refuse(operator, f"its output is not of the shape {grown}", "write the file again")
    value = _padding(importer, operator)
    if any(any(pair) for pair in pairs):
        move.add(Pad(pairs[move.leading :], value))
    move.finish()


def _padding(importer: Importer, operator: Operator) -> int:
    found = importer.scaled(operator.outputs[0], importer.place(operator))
    if len(operator.inputs) == 2:
        return found.zero_point if importer.tensor(operator.inputs[0]).kind == "INT8" else 0
    index = operator.inputs[2]
    alike = importer.tensor(index).kind == importer.tensor(operator.inputs[0]).kind
    if index < 0 or not alike or importer.constant(index, operator).size != 1:
        raise importer.refuse(operator, "its value is not one constant of its input's type", "write the file again")
    return int(importer.constant(index, operator).reshape(-1)[0])


def _concatenation(importer: Importer, operator: Operator) -> None:
    """The inputs one behind the other. The kernel does not rescale, so all must have the output's scale."""
    if operator.options["fused_activation_function"] != "NONE":
        what = "it has a fused activation, which TFLite-Micro refuses"
        raise importer.refuse(operator, what, "put the activation behind it, as an operator of its own")
    if len(operator.inputs) > MOST_JOINED:
        what = f"it joins {len(operator.inputs)} inputs, TFLite-Micro takes up to {MOST_JOINED}"
        raise importer.refuse(operator, what, "join a few at a time")
    place, target = importer.place(operator), operator.outputs[0]
    wanted = importer.scaled(target, place), importer.range(target, operator)
    for index in operator.inputs:
        name = importer.named(index, place)
        if (importer.scaled(index, place), importer.range(index, operator)) != wanted:
            what = f"its input '{name}' has another scale or zero point than its output; TFLite-Micro does not rescale"
            raise importer.refuse(operator, what, AGAIN)
    axis = graph_axis(importer.tensor(operator.inputs[0]), importer.integer(operator, "axis"))
    if axis < 0:
        raise importer.refuse(operator, "it joins along the batch axis", _BATCH)
    parts = tuple(importer.named(index, place) for index in operator.inputs)
    importer.define(target, importer.add(Concat(axis), parts, wanted[0].label, operator))


def _split(importer: Importer, operator: Operator, source: int, axis_at: int) -> None:
    """One Slice an output; the sizes are the outputs' own."""
    numbers = _numbers(importer, operator, axis_at)
    if len(numbers) != 1:
        raise importer.refuse(operator, f"its axis is {len(numbers)} numbers", "write the file again")
    axis = graph_axis(importer.tensor(operator.inputs[source]), numbers[0])
    first = 0
    for part, output in enumerate(operator.outputs):
        move = _Move(importer, operator, operator.inputs[source])
        if not 0 <= axis < len(move.shape):
            raise importer.refuse(operator, "it splits the batch axis", _BATCH)
        size = importer.shape(output)
        if len(size) != len(move.shape):
            raise importer.refuse(operator, f"its output {part} has another number of axes", "write the file again")
        begin = tuple(first if one == axis else 0 for one in range(len(size)))
        move.label = importer.scaled(output, move.place).label
        move.add(Slice(begin, size, (1,) * len(size)), f"_{part + 1}")
        move.finish(output)
        first += size[axis]
    if first != importer.shape(operator.inputs[source])[axis]:
        raise importer.refuse(operator, "its outputs together are not its input", "write the file again")


def _strided_slice(importer: Importer, operator: Operator) -> None:
    """StartForAxis and StopForAxis (strided_slice_logic.h). A negative stride turns an axis round, slice by slice."""
    for name in ("ellipsis_mask", "new_axis_mask", "offset"):
        if importer.integer(operator, name):
            raise importer.refuse(operator, f"TFLite-Micro takes no {name}", "write begin and end for every axis")
    move = _Move(importer, operator, operator.inputs[0])
    begins, ends, strides = (_numbers(importer, operator, one, (move.rank,)) for one in (1, 2, 3))
    if 0 in strides:
        raise importer.refuse(operator, "its stride is 0", "use a stride of 1 or more")
    sizes = importer.tensor(move.source).shape
    masks = [importer.integer(operator, name) for name in ("begin_mask", "end_mask", "shrink_axis_mask")]
    picks = [
        _picked(size, begin, end, stride, tuple(bool(mask >> axis & 1) for mask in masks))
        for axis, (size, begin, end, stride) in enumerate(zip(sizes, begins, ends, strides, strict=True))
    ]
    if any(one != range(1) for one in picks[: move.leading]):
        raise importer.refuse(operator, "it slices the batch axis", _BATCH)
    if any(stride < 0 and masks[2] >> axis & 1 for axis, stride in enumerate(strides)):
        what = "it takes one element with a negative stride, where TFLite-Micro writes nothing"
        raise importer.refuse(operator, what, "use a stride of 1 for an axis that shrinks")
    _pick(move, picks[move.leading :])
    move.finish()


def _picked(size: int, begin: int, end: int, stride: int, masks: tuple[bool, ...]) -> range:
    """The elements of one axis that a slice takes. `masks`: begin and end do not count; one element, no axis."""
    least, most = (0, size) if stride > 0 else (-1, size - 1)
    first, last = (least, most) if stride > 0 else (most, least)
    start = first if masks[0] else min(max(begin + (size if begin < 0 else 0), least), most)
    if masks[2]:
        return range(start, start + 1)
    stop = last if masks[1] else min(max(end + (size if end < 0 else 0), least), most)
    return range(start, stop, stride)


def _pick(move: _Move, picks: Sequence[range]) -> None:
    """The elements of every axis; a Slice where all run forwards, then one Concat an axis that runs backwards."""
    sizes = tuple(len(one) for one in picks)
    forwards = [one if one.step > 0 or len(one) < 2 else one[::-1] for one in picks]
    steps = tuple(one.step if len(one) > 1 else 1 for one in forwards)
    if sizes != move.shape or any(one.start for one in forwards):
        move.add(Slice(tuple(one.start for one in forwards), sizes, steps))
    for axis, (given, taken) in enumerate(zip(picks, forwards, strict=True)):
        if given != taken:
            _reverse(move, axis)


def _reverse(move: _Move, axis: int) -> None:
    count = move.shape[axis]
    if count > _MOST_REVERSED:
        what = f"it turns an axis of {count} elements round, more than {_MOST_REVERSED}"
        raise move.importer.refuse(move.operator, what, "turn the axis round before the model")
    size = tuple(1 if one == axis else length for one, length in enumerate(move.shape))
    parts: list[str] = []
    for position in reversed(range(count)):
        begin = tuple(position if one == axis else 0 for one in range(len(size)))
        op = Slice(begin, size, (1,) * len(size))
        parts.append(move.importer.add(op, (move.tensor,), move.label, move.operator, end=f"_at{position}"))
    move.tensor = move.importer.add(Concat(axis), tuple(parts), move.label, move.operator, end="_reversed")


def _transpose(importer: Importer, operator: Operator) -> None:
    """The axes in another order; the batch, of 1, may stand anywhere as long as it comes first again."""
    move = _Move(importer, operator, operator.inputs[0])
    order = _numbers(importer, operator, 1, (move.rank,))
    if sorted(order) != list(range(move.rank)):
        raise importer.refuse(operator, f"{tuple(order)} is no order of {move.rank} axes", "write the file again")
    if move.leading and importer.tensor(operator.outputs[0]).shape[:1] != (1,):
        raise importer.refuse(operator, "it moves the batch axis", _BATCH)
    kept = tuple(axis - move.leading for axis in order if axis >= move.leading)
    if kept != tuple(sorted(kept)):
        move.add(Transpose(kept))
    move.finish()


def _resize(importer: Importer, operator: Operator) -> None:
    """Nearest neighbours: repeated elements, or every n-th one. The positions are the kernel's own, in float32."""
    move = _Move(importer, operator, operator.inputs[0])
    if move.rank != 4:
        raise importer.refuse(operator, f"its input has {move.rank} axes, not 4", "write the file again")
    lengths = _numbers(importer, operator, 1, (2,))
    if min(lengths) < 1 or tuple(lengths) != importer.tensor(operator.outputs[0]).shape[1:3]:
        raise importer.refuse(operator, f"its output is not of the size {tuple(lengths)}", "write the file again")
    flags = tuple(bool(importer.integer(operator, name)) for name in ("align_corners", "half_pixel_centers"))
    factors: list[int] = []
    picks: list[range] = []
    for size, length in zip(move.shape[:2], lengths, strict=True):
        found = _stretched(_nearest(size, length, *flags), size)
        if found is None:
            what = f"it brings {size} positions to {length}, which does not repeat each equally often"
            raise importer.refuse(operator, what, "resize by whole factors, without align_corners")
        picks.append(found[0])
        factors.append(found[1])
    _pick(move, [*picks, range(move.shape[2])])
    if factors != [1, 1]:
        move.add(Upsample(tuple(factors), zeros=False))
    move.finish()


def _nearest(size: int, length: int, align_corners: bool, half_pixel_centers: bool) -> list[int]:
    """GetNearestNeighbor of each of `length` positions (reference/resize_nearest_neighbor.h)."""
    corners = align_corners and length > 1
    scale = np.float32(size - 1) / np.float32(length - 1) if corners else np.float32(size) / np.float32(length)
    offset = np.float32(0.5 if half_pixel_centers else 0.0)
    places = (np.arange(length).astype(np.float32) + offset) * scale
    rounded = np.floor(places.astype(np.float64) + 0.5) if align_corners else np.floor(places)
    return [int(one) for one in np.clip(rounded, 0, size - 1)]


def _stretched(places: list[int], size: int) -> tuple[range, int] | None:
    """Positions as a regular part of an axis whose elements repeat equally often; None where they are not that."""
    factor = places.count(places[0])
    step = places[factor] - places[0] if len(places) > factor else 1
    if step < 1 or len(places) % factor:
        return None
    part = range(places[0], places[0] + len(places) // factor * step, step)
    return (part, factor) if places == [one for one in part for _ in range(factor)] and part[-1] < size else None


def _split_even(importer: Importer, operator: Operator) -> None:
    """SPLIT: axis, input."""
    _split(importer, operator, 1, 0)


def _split_sizes(importer: Importer, operator: Operator) -> None:
    """SPLIT_V: input, sizes, axis."""
    _split(importer, operator, 0, 2)


SHAPING: Mapping[str, Handler] = {
    "PAD": _pad,
    "PADV2": _pad,
    "CONCATENATION": _concatenation,
    "STRIDED_SLICE": _strided_slice,
    "SPLIT": _split_even,
    "SPLIT_V": _split_sizes,
    "TRANSPOSE": _transpose,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
}
