"""PAD, PADV2, CONCATENATION, STRIDED_SLICE, SPLIT, SPLIT_V, TRANSPOSE and RESIZE_NEAREST_NEIGHBOR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from edgeflow.frontends.tflite.model import TfliteFile
from tests.frontends.tflite.make import Making, assert_refused, ops
from tests.frontends.tflite.wheel import assert_equal

Rng = np.random.Generator


def _kind(rng: Rng) -> str:
    return str(rng.choice(("INT8", "INT16")))


def _shape(rng: Rng, least: int = 1, most: int = 4) -> tuple[int, ...]:
    """One axis, or a batch of 1 and others."""
    rank = int(rng.integers(least, most + 1))
    return tuple(int(one) for one in ((1,) if rank > 1 else ()) + tuple(rng.integers(1, 6, max(rank - 1, 1))))


def _zero(rng: Rng, kind: str) -> int:
    return int(rng.choice((-128, 127, 0, 7))) if kind == "INT8" else 0


def _pad(rng: Rng) -> TfliteFile:
    making, kind, shape = Making("pad"), _kind(rng), _shape(rng)
    zero = _zero(rng, kind)
    x = making.input(shape, kind, 0.1, zero)
    pads = rng.integers(0, 4, (len(shape), 2))
    pads[0] *= len(shape) == 1
    inputs = [x, making.constant(pads, "INT32")]
    if rng.integers(2):
        inputs.append(making.constant(np.array([rng.integers(-128, 128)]), kind, 0.1, zero))
    result = [int(one) for one in np.add(shape, pads.sum(axis=1))]
    making.add("PADV2" if len(inputs) == 3 else "PAD", inputs, result)
    return making.file()


def _concatenation(rng: Rng) -> TfliteFile:
    making, kind, shape = Making("concatenation"), _kind(rng), _shape(rng)
    axis = int(rng.integers(1, len(shape))) if len(shape) > 1 else 0
    parts: list[int] = []
    for length in rng.integers(1, 5, rng.integers(1, 5)):
        one = (*shape[:axis], int(length), *shape[axis + 1 :])
        parts.append(making.input(one, kind, 0.1, _zero(np.random.default_rng(int(rng.integers(1))), kind)))
    total = sum(making.tensors[one].shape[axis] for one in parts)
    named = axis - len(shape) if rng.integers(2) else axis
    making.add("CONCATENATION", parts, (*shape[:axis], total, *shape[axis + 1 :]), axis=named)
    return making.file()


def _slice(rng: Rng) -> TfliteFile:
    """Any begin, end, stride and mask that leave something, the batch whole; one element goes forwards."""
    kind, shape = _kind(rng), _shape(rng)
    while True:
        begin, end = (rng.integers(-7, 8, len(shape)) for _ in range(2))
        masks = [int(one) for one in rng.integers(0, 1 << len(shape), 3)]
        strides = rng.choice((1, 1, 2, 3, -1, -2), len(shape))
        if len(shape) > 1:
            begin[0], end[0], strides[0], masks[2] = 0, 1, 1, masks[2] & ~1
        strides = np.where([masks[2] >> axis & 1 for axis in range(len(shape))], np.abs(strides), strides)
        picks = [
            _python_slice(*one, tuple(mask >> axis & 1 for mask in masks))
            for axis, one in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist(), strict=True))
        ]
        try:
            result = np.zeros(shape)[tuple(picks)].shape
        except IndexError:
            continue
        if result and 0 not in result and len(result) + (len(shape) == 1) > 1:
            return strided(shape, begin.tolist(), end.tolist(), strides.tolist(), result, kind, masks)


def _python_slice(begin: int, end: int, stride: int, masks: tuple[int, ...]) -> slice | int:
    if masks[2]:
        return 0 if masks[0] else begin
    return slice(None if masks[0] else begin, None if masks[1] else end, stride)


def strided(
    shape: Sequence[int],
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int],
    result: Sequence[int],
    kind: str = "INT8",
    masks: Sequence[int] = (0, 0, 0),
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
) -> TfliteFile:
    """A file of one STRIDED_SLICE. `masks` for begin, end and shrink."""
    making = Making("strided_slice")
    x = making.input(shape, kind, 0.1)
    parts = [making.constant(one, "INT32") for one in (begin, end, strides)]
    making.add(
        "STRIDED_SLICE",
        [x, *parts],
        result,
        begin_mask=masks[0],
        end_mask=masks[1],
        ellipsis_mask=ellipsis_mask,
        new_axis_mask=new_axis_mask,
        shrink_axis_mask=masks[2],
    )
    return making.file()


def _split(rng: Rng) -> TfliteFile:
    shape, count = list(_shape(rng)), int(rng.integers(1, 4))
    axis = int(rng.integers(1, len(shape))) if len(shape) > 1 else 0
    even = bool(rng.integers(2))
    sizes = [int(rng.integers(1, 4))] * count if even else [int(one) for one in rng.integers(1, 4, count)]
    shape[axis] = sum(sizes)
    named = axis - len(shape) if rng.integers(2) else axis
    return split(shape, named, axis, sizes, even, _kind(rng))


def split(
    shape: Sequence[int], named: int, axis: int, sizes: Sequence[int], even: bool, kind: str = "INT8"
) -> TfliteFile:
    """A file of one SPLIT (`even`) or SPLIT_V, every part an output."""
    making = Making("split")
    x = making.input(shape, kind, 0.1)
    outputs = [
        making.tensor(f"part{number}", (*shape[:axis], size, *shape[axis + 1 :]), kind, 0.1)
        for number, size in enumerate(sizes)
    ]
    if even:
        making.operator("SPLIT", (making.constant(np.int32(named), "INT32"), x), outputs, num_splits=len(sizes))
    else:
        parts = (x, making.constant(sizes, "INT32"), making.constant(np.int32(named), "INT32"))
        making.operator("SPLIT_V", parts, outputs, num_splits=len(sizes))
    return making.file(*outputs)


def _transpose(rng: Rng) -> TfliteFile:
    shape = _shape(rng, 1, 5)
    order = [0, *(1 + rng.permutation(len(shape) - 1))] if len(shape) > 1 else [0]
    return transposed(shape, [int(one) for one in order], _kind(rng))


def transposed(shape: Sequence[int], order: Sequence[int], kind: str = "INT8") -> TfliteFile:
    """A file of one TRANSPOSE."""
    making = Making("transpose")
    x = making.input(shape, kind, 0.1)
    making.add("TRANSPOSE", (x, making.constant(order, "INT32")), [shape[axis] for axis in order])
    return making.file()


def _resize(rng: Rng) -> TfliteFile:
    """Whole factors up or, where the positions are regular, down."""
    source = [int(one) for one in rng.integers(1, 6, 2)]
    if rng.integers(3):
        return resized(
            source, [one * int(rng.integers(1, 5)) for one in source], _kind(rng), False, bool(rng.integers(2))
        )
    factors = [int(one) for one in rng.integers(1, 4, 2)]
    flags = bool(rng.integers(2))
    return resized([a * b for a, b in zip(source, factors, strict=True)], source, _kind(rng), False, flags)


def resized(source: Sequence[int], target: Sequence[int], kind: str, corners: bool, centers: bool) -> TfliteFile:
    """A file of one RESIZE_NEAREST_NEIGHBOR."""
    making = Making("resize")
    x = making.input((1, *source, 3), kind, 0.1)
    size = making.constant(target, "INT32")
    making.add("RESIZE_NEAREST_NEIGHBOR", (x, size), (1, *target, 3), align_corners=corners, half_pixel_centers=centers)
    return making.file()


MODELS: Mapping[str, Callable[[Rng], TfliteFile]] = {
    "pad": _pad,
    "concatenation": _concatenation,
    "strided_slice": _slice,
    "split": _split,
    "transpose": _transpose,
    "resize": _resize,
}


def models(count: int, seed: int) -> list[TfliteFile]:
    """`count` of each kind."""
    makers = enumerate(MODELS.values())
    return [make(np.random.default_rng((seed, at, kind))) for kind, make in makers for at in range(count)]


@pytest.mark.usefixtures("wheel")
def test_moved_values_are_those_of_tflite_micro() -> None:
    assert_equal(models(4, 1), samples=6)


@pytest.mark.slow
@pytest.mark.usefixtures("wheel")
def test_many_moved_values_are_those_of_tflite_micro() -> None:
    assert_equal(models(40, 2), samples=8)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (transposed((1, 2, 3), (0, 1, 2)), []),
        (transposed((1, 2, 3), (0, 2, 1)), ["Transpose"]),
        (transposed((1, 1, 3, 2), (1, 0, 3, 2)), ["Transpose"]),
        (transposed((1, 1, 3, 2), (1, 3, 0, 2)), ["Transpose", "Reshape"]),
        (strided((1, 4), (0, 0), (1, 4), (1, 1), (1, 4)), []),
        (strided((1, 4, 2), (0, 1, 0), (1, 2, 2), (1, 1, 1), (1, 2), masks=(0, 0, 2)), ["Slice", "Reshape"]),
        (strided((1, 4), (0, 0), (1, 4), (1, 1), (4,), masks=(0, 0, 1)), []),
        (strided((1, 3), (0, 2), (1, -9), (1, -1), (1, 3)), ["Slice", "Slice", "Slice", "Concat"]),
        (resized((2, 3), (2, 3), "INT8", corners=True, centers=False), []),
        (resized((2, 3), (4, 9), "INT8", corners=False, centers=True), ["Upsample"]),
        (resized((4, 9), (2, 3), "INT8", corners=False, centers=False), ["Slice"]),
        (resized((4, 3), (2, 6), "INT8", corners=False, centers=False), ["Slice", "Upsample"]),
        (split((1, 4), 1, 1, (2, 2), even=True), ["Slice", "Slice"]),
    ],
)
def test_only_what_moves_is_in_the_graph(file: TfliteFile, expected: list[str]) -> None:
    assert ops(file) == expected


@pytest.mark.usefixtures("wheel")
def test_axes_that_come_back_and_corners_are_those_of_tflite_micro() -> None:
    assert_equal(
        [
            transposed((1, 1, 3, 2), (1, 3, 0, 2)),
            strided((1, 4), (0, 0), (1, 4), (1, 1), (4,), masks=(0, 0, 1)),
            resized((2, 2), (2, 1), "INT8", corners=True, centers=False),
            resized((1, 1), (3, 4), "INT16", corners=True, centers=True),
            resized((3, 5), (2, 3), "INT8", corners=True, centers=False),
        ]
    )


def padded(
    pads: Sequence[Sequence[int]],
    code: str = "PAD",
    value: tuple[int, str] | None = None,
    shape: Sequence[int] | None = None,
) -> TfliteFile:
    making = Making()
    inputs = [making.input((1, 2, 3), zero=7), making.constant(pads, "INT32")]
    if value is not None:
        inputs.append(making.constant([value[0]], value[1], 0.05, 7))
    making.add(code, inputs, shape or [int(one) for one in np.add((1, 2, 3), np.sum(pads, axis=1))])
    return making.file()


def joined(axis: int, scale: float = 0.05, activation: str = "NONE", parts: int = 2) -> TfliteFile:
    making = Making()
    inputs = making.input((1, 2)), *(making.input((1, 2), scale=scale, name="other") for _ in range(parts - 1))
    shape = (parts, 2) if axis == 0 else (1, 2 * parts)
    making.add("CONCATENATION", inputs, shape, axis=axis, fused_activation_function=activation)
    return making.file()


AGAIN = "convert the model again with a current converter"
BATCH = "leave the batch axis alone"
DAMAGED = "write the file again"
WHOLE = "resize by whole factors, without align_corners"
REFUSED: Mapping[str, tuple[TfliteFile, str, str]] = {
    "pad the batch": (padded(((1, 0), (0, 0), (0, 0))), "operator 0 (PAD): it pads the batch axis", BATCH),
    "pad to another shape": (
        padded(((0, 0), (0, 1 << 30), (0, 0)), shape=(1, 2, 3)),
        "operator 0 (PAD): its output is not of the shape (1, 1073741826, 3)",
        DAMAGED,
    ),
    "negative pad": (padded(((0, 0), (0, -1), (0, 0))), "operator 0 (PAD): it pads by less than 0", "slice instead"),
    "pad value": (
        padded(((0, 0), (0, 1), (0, 0)), "PADV2", (1, "INT16")),
        "operator 0 (PADV2): its value is not one constant of its input's type",
        DAMAGED,
    ),
    "join the batch": (joined(0), "operator 0 (CONCATENATION): it joins along the batch axis", BATCH),
    "join two scales": (
        joined(1, 0.06),
        "operator 0 (CONCATENATION): its input 'other' has another scale or zero point than its output; "
        "TFLite-Micro does not rescale",
        AGAIN,
    ),
    "fused": (
        joined(1, activation="RELU"),
        "operator 0 (CONCATENATION): it has a fused activation, which TFLite-Micro refuses",
        "put the activation behind it, as an operator of its own",
    ),
    "many": (
        joined(1, parts=11),
        "operator 0 (CONCATENATION): it joins 11 inputs, TFLite-Micro takes up to 10",
        "join a few at a time",
    ),
    "axes to transpose": (
        transposed((1, 2, 3, 1, 2, 1), (0, 2, 1, 3, 4, 5)),
        "operator 0 (TRANSPOSE): its input has 6 axes, TFLite-Micro takes up to 5",
        "reshape it to fewer axes before, and back behind",
    ),
    "axes to slice": (
        strided((1, 2, 1, 1, 3), (0,) * 5, (1, 2, 1, 1, 2), (1,) * 5, (1, 2, 1, 1, 2)),
        "operator 0 (STRIDED_SLICE): its input has 5 axes, TFLite-Micro takes up to 4",
        "reshape it to fewer axes before, and back behind",
    ),
    "slice the batch": (
        strided((1, 4), (0, 0), (0, 4), (1, 1), (1, 4)),
        "operator 0 (STRIDED_SLICE): it slices the batch axis",
        BATCH,
    ),
    "ellipsis": (
        strided((1, 4), (0, 0), (1, 4), (1, 1), (1, 4), ellipsis_mask=2),
        "operator 0 (STRIDED_SLICE): TFLite-Micro takes no ellipsis_mask",
        "write begin and end for every axis",
    ),
    "new axis": (
        strided((1, 4), (0, 0), (1, 4), (1, 1), (1, 1, 4), new_axis_mask=2),
        "operator 0 (STRIDED_SLICE): TFLite-Micro takes no new_axis_mask",
        "write begin and end for every axis",
    ),
    "few axes": (
        strided((1, 4, 2), (0, 1), (1, 3), (1, 1), (1, 2, 2)),
        "operator 0 (STRIDED_SLICE): its input 1 has the shape (2,), not (3,)",
        DAMAGED,
    ),
    "stride 0": (
        strided((1, 4), (0, 0), (1, 4), (1, 0), (1, 4)),
        "operator 0 (STRIDED_SLICE): its stride is 0",
        "use a stride of 1 or more",
    ),
    "one element backwards": (
        strided((1, 4, 2), (0, 1, 0), (1, 0, 2), (1, -1, 1), (1, 2), masks=(0, 0, 2)),
        "operator 0 (STRIDED_SLICE): it takes one element with a negative stride, where TFLite-Micro writes nothing",
        "use a stride of 1 for an axis that shrinks",
    ),
    "long reversal": (
        strided((1, 65), (0, 64), (1, -99), (1, -1), (1, 65)),
        "operator 0 (STRIDED_SLICE): it turns an axis of 65 elements round, more than 64",
        "turn the axis round before the model",
    ),
    "split the batch": (
        split((1, 4), 0, 1, (2, 2), even=True),
        "operator 0 (SPLIT): it splits the batch axis",
        BATCH,
    ),
    "lost elements": (
        split((1, 4), 1, 1, (2, 1), even=False),
        "operator 0 (SPLIT_V): its outputs together are not its input",
        DAMAGED,
    ),
    "move the batch": (
        transposed((1, 4, 2), (1, 0, 2)),
        "operator 0 (TRANSPOSE): it moves the batch axis",
        BATCH,
    ),
    "no order": (transposed((1, 4, 2), (0, 1, 1)), "operator 0 (TRANSPOSE): (0, 1, 1) is no order of 3 axes", DAMAGED),
    "uneven resize": (
        resized((2, 3), (3, 3), "INT8", corners=False, centers=False),
        "operator 0 (RESIZE_NEAREST_NEIGHBOR): it brings 2 positions to 3, which does not repeat each equally often",
        WHOLE,
    ),
    "corners": (
        resized((3, 3), (9, 3), "INT8", corners=True, centers=False),
        "operator 0 (RESIZE_NEAREST_NEIGHBOR): it brings 3 positions to 9, which does not repeat each equally often",
        WHOLE,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_operator_and_the_fix(case: str) -> None:
    file, what, fix = REFUSED[case]
    assert_refused(file, f"{what}\n  fix: {fix}")
