"""Epilogues and words of weights for fully connected layers whose whole sums are exact, however large they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.dsp.dense_layer import DenseLayer
from edgeflow.backends.c.dsp.forms import INT32_HI, INT32_LO, Form, General, MulHigh, PowerOfTwo
from edgeflow.backends.c.dsp.requantize import SHIFTS, channels_of, find_layer, with_bias
from edgeflow.backends.c.dsp.request import shifts_of
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue, HalfSums, Sums
from edgeflow.backends.c.dsp.tile_forms import constants_of, epilogue_of, requantization
from edgeflow.backends.c.dsp.tile_weights import Constants, ConstantsOf, fits, pack, reach
from edgeflow.ir.types import IntArray
from edgeflow.ops.requant import Requant

_SUMS = {one.size: one for one in (HalfSums(), Sums())}
"""By the bytes of a result."""
_KINDS: tuple[type[Form], ...] = (PowerOfTwo, MulHigh, General)
_LOWEST_LANE = -(1 << 15)


def nested_finish(layer: DenseLayer, together: int = 1) -> tuple[Epilogue, ConstantsOf] | None:
    """The epilogue of nested sums and what each output needs; None where no epilogue serves, or they are not exact."""
    weights, bias = layer.weights, layer.bias
    if layer.requant is not None:
        return requantization(layer.requant, weights, bias, layer.ends, together, shifts_of(layer.context))
    constants = _biases(bias, nested=True)
    return (_SUMS[layer.size], constants) if fits(weights, *layer.ends, constants, together) else None


def whole_finish(layer: DenseLayer) -> tuple[Epilogue, ConstantsOf] | None:
    """The same of sums that come as they are, scale 1."""
    weights, bias = layer.weights, layer.bias
    if layer.requant is not None:
        return whole_sums(layer.requant, weights, bias, layer.ends, shifts_of(layer.context))
    least, most = reach(weights, *layer.ends)
    inside = (least + bias >= INT32_LO).all() and (most + bias <= INT32_HI).all()
    return (_SUMS[layer.size], _biases(bias, nested=False)) if inside else None


def _biases(bias: IntArray, *, nested: bool) -> ConstantsOf:
    """What the outputs need whose sums are stored; those of a pair come with its scales where they are nested."""

    def constants(output: int, scale: int) -> Constants:
        return Constants((scale if nested else 1) * int(bias[output]))

    return constants


def whole_sums(
    requant: Requant, weights: IntArray, bias: IntArray, bounds: tuple[int, int], shifts: Sequence[int] = SHIFTS
) -> tuple[Epilogue, ConstantsOf] | None:
    """The cheapest epilogue of sums that come as they are, scale 1, and what each output needs.

    `weights` are (outputs, values) with `bias` (outputs,); x lies in the closed interval `bounds`. None where no
    epilogue serves all outputs, or a sum with its addend leaves 32 bits.
    """
    least, most = reach(weights, *bounds)
    channels = channels_of(with_bias(requant, bias), least, most) or ()
    for kind in _KINDS:
        forms = [form for form in find_layer(channels, kind, shifts).forms if form is not None] if channels else []
        epilogue = epilogue_of(forms) if len(forms) == len(weights) else None
        if epilogue is None:
            continue
        table = [constants_of(form, epilogue, 1) for form in forms]
        addends = np.array([one.addend for one in table])
        if (least + addends >= INT32_LO).all() and (most + addends <= INT32_HI).all():

            def constants(output: int, scale: int, table: list[Constants] = table) -> Constants:
                return table[output]

            return epilogue, constants
    return None


def nests(weights: IntArray) -> bool:
    """Whether two outputs fit a 16-bit lane, in the pairs (0, 1), (2, 3), ... of (outputs, values), the last (n - 2,
    n - 1): a lane cannot hold 256 * -128 and less.
    """
    if weights.min(initial=0) < -128 or weights.max(initial=0) > 127:
        return False
    pairs = [(a, a + 1) for a in range(0, len(weights) - 1, 2)] + [(len(weights) - 2, len(weights) - 1)]
    return len(weights) == 1 or all((256 * weights[a] + weights[b] >= _LOWEST_LANE).all() for a, b in pairs)


def pack_groups(
    weights: IntArray, lanes: IntArray, constants: ConstantsOf, pairs: int, *, parted: bool
) -> npt.NDArray[np.uint32]:
    """The words of `tile_weights.pack`; where the function is parted, the firsts' addends stay alone."""
    words = pack(weights, lanes, constants, pairs)
    if parted:
        each = 2 * pairs + len(lanes) // 2 * pairs + sum(len(constants(0, 1).words) for _ in range(2 * pairs))
        groups = words.reshape(-1, each) if len(weights) > 1 else words[None]
        groups[:, :pairs] -= groups[:, pairs : 2 * pairs]
    return words


def shifted(constants: ConstantsOf, first: int) -> ConstantsOf:
    """The constants of the outputs from `first` on, counted from 0."""

    def own(output: int, scale: int) -> Constants:
        return constants(first + output, scale)

    return own
