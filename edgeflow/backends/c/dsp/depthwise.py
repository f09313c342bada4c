"""Depthwise convolution for Armv7E-M: packed weights, and the C text of a function that makes one or two rows.

The function has the signature

    static void NAME(const uint8_t *const *rows, const uint32_t *w, uint32_t *scratch, uint8_t *y)

rows: pointers to `Depthwise.inputs` input rows of columns * channels bytes, channels last, values 0..255; a row
outside the image points to bytes that all have the pad value. w: what `pack` returns. scratch: `scratch_words` words.
y: `rows` output rows, outputs * channels results each, one behind the other; it overlaps no input row.

Where the DSP instructions and the floating-point registers are, it is assembly (AAPCS, nothing below sp, reads words
at any address, so CCR.UNALIGN_TRP must be off where channels is no multiple of 4); elsewhere plain C does the same
from the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.dsp import depthwise_stationary, depthwise_streaming
from edgeflow.backends.c.dsp.depthwise_listing import QUAD, Listing, words_a_channel
from edgeflow.backends.c.dsp.depthwise_taps import Depthwise
from edgeflow.backends.c.dsp.packed_taps import CARRIED, HALF, Taps
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue
from edgeflow.backends.c.dsp.tile_weights import Constants
from edgeflow.ir.types import IntArray

__all__ = ["Depthwise", "channel_order", "code_bytes", "has_assembly", "pack", "scratch_words", "source", "work"]

ARGUMENTS = "const uint8_t *const *rows, const uint32_t *w, uint32_t *scratch, uint8_t *y"
_HALF = 1 << 15
_WRAPPER, _AGAIN, _AGAIN_A_ROW = 8, 35, 6
"""About the instructions around the assembly, and for channels that are made once more."""


@dataclass(frozen=True)
class _Kernel:
    """A way to do it in assembly: what it can do, what scratch it needs, its listing."""

    fits: Callable[[Depthwise, Epilogue], bool]
    scratch_words: Callable[[Depthwise], int]
    listing: Callable[[Depthwise, Epilogue], Listing]


_KERNELS = (
    _Kernel(depthwise_streaming.fits, depthwise_streaming.scratch_words, depthwise_streaming.listing),
    _Kernel(depthwise_stationary.fits, depthwise_stationary.scratch_words, depthwise_stationary.listing),
)
"""The faster first."""


def _kernel(shape: Depthwise, epilogue: Epilogue) -> _Kernel | None:
    return next((one for one in _KERNELS if one.fits(shape, epilogue)), None)


def has_assembly(shape: Depthwise, epilogue: Epilogue) -> bool:
    """Whether the function has assembly; else plain C serves every processor."""
    return _kernel(shape, epilogue) is not None


def scratch_words(shape: Depthwise, epilogue: Epilogue) -> int:
    """32-bit words of scratch that a call needs, 0 without assembly."""
    kernel = _kernel(shape, epilogue)
    return kernel.scratch_words(shape) if kernel else 0


def code_bytes(shape: Depthwise, epilogue: Epilogue) -> int:
    """About the bytes of code of the function, 0 without assembly."""
    kernel = _kernel(shape, epilogue)
    return kernel.listing(shape, epilogue).code_bytes if kernel else 0


def work(shape: Depthwise, epilogue: Epilogue) -> float:
    """Instructions of a call of the function, 0 without assembly."""
    kernel = _kernel(shape, epilogue)
    again = _AGAIN + _AGAIN_A_ROW * shape.inputs if shape.channels % QUAD else 0
    return kernel.listing(shape, epilogue).work + _WRAPPER + again if kernel else 0.0


def channel_order(channels: int) -> IntArray:
    """The channels as the function works through them: four at a time, the last four may repeat some."""
    whole = channels - channels % QUAD
    again = range(channels - QUAD, channels) if channels > QUAD and whole < channels else range(whole, channels)
    return np.array([*range(whole), *again])


def pack(
    weight: IntArray,
    stride: tuple[int, int],
    constants: Sequence[Constants],
    epilogue: Epilogue,
    taps: Taps | None = None,
) -> npt.NDArray[np.uint32]:
    """The words w that the function reads, for one row and for two alike.

    weight: (kernel rows, kernel columns, channels), -32768..32767. constants: each channel's addend (its bias
    included) and its words for the epilogue. `taps`: the layout of weights of fewer bits, the top ones of their
    16. Raises ValueError where their number or a weight's range is wrong.
    """
    height, width, channels = weight.shape
    if weight.min() < -_HALF or weight.max() >= _HALF:
        raise ValueError("a depthwise weight has more than 16 bits")
    if len(constants) != channels or any(len(one.words) != epilogue.constants for one in constants):
        raise ValueError(f"{channels} channels need an addend and {epilogue.constants} constants each")
    shape = Depthwise(2, (height, width), stride, width, channels, 1, 0, taps=taps)
    heads = np.array([(one.addend, *one.words) for one in constants], np.int64).reshape(channels, -1)
    stored = taps.pack(weight // taps.scale) if taps else _halves(weight, shape)
    packed = np.concatenate([heads, stored], axis=1)[channel_order(channels)]
    return (packed.reshape(-1) & 0xFFFFFFFF).astype(np.uint32)


def _halves(weight: IntArray, shape: Depthwise) -> IntArray:
    """(channels, words): weights two in a word, as the kernels multiply them."""
    channels, width, words = shape.channels, shape.kernel[1], shape.words
    halves = np.zeros((channels, width, len(words), 2), np.int64)
    for i, pair in enumerate(words):
        for half, tap in enumerate(pair):
            if tap is not None:
                halves[:, :, i, half] = weight[tap].T & 0xFFFF
    return (halves[..., 0] | halves[..., 1] << 16).reshape(channels, -1)


def source(name: str, shape: Depthwise, epilogue: Epilogue) -> str:
    """The C text of the function `name`, an identifier."""
    kernel = _kernel(shape, epilogue)
    twin = _twin(name, shape, epilogue)
    if kernel is None:
        return twin
    assembly = _assembly(name, shape, epilogue, kernel.listing(shape, epilogue))
    guard = "#if defined(__ARM_FEATURE_DSP) && defined(__ARM_FP)"
    return f"{guard}\n{assembly}#else\n{twin}#endif\n"


def _assembly(name: str, shape: Depthwise, epilogue: Epilogue, listing: Listing) -> str:
    whole, rest = divmod(shape.channels, QUAD)
    arguments = [f"    __attribute__((unused)) {one}" for one in (*ARGUMENTS.split(", "), "uint32_t quads")]
    lines = [
        f"/* {QUAD} * quads channels, from the first on. noipa: the compiler must conclude nothing about arguments and",
        " * registers from a body without C. */",
        f"__attribute__((naked, noipa)) static void {name}_quads(",
        ",\n".join(arguments) + ")",
        "{",
        listing.body(),
        "}",
        "",
        f"static void {name}({ARGUMENTS})",
        "{",
        f"    {name}_quads(rows, w, scratch, y, {whole}u);",
    ]
    if rest:
        start, done = shape.channels - QUAD, whole * QUAD * words_a_channel(shape, epilogue)
        offset = start * epilogue.size
        lines += [
            f"    const uint8_t *last[{shape.inputs}]; /* the last {QUAD} channels, {QUAD - rest} of them once more */",
            f"    for (int32_t i = 0; i < {shape.inputs}; i++) {{",
            f"        last[i] = rows[i] + {start};",
            "    }",
            f"    {name}_quads(last, w + {done}, scratch, y + {offset}, 1u);",
        ]
    return "\n".join([*lines, "}", ""])


def _places(shape: Depthwise, epilogue: Epilogue) -> list[tuple[int, int]]:
    """For each tap, row by row, the word of its channel that has it, and how far from the top it lies there."""
    first, found = 1 + epilogue.constants, list[tuple[int, int]]()
    for row in range(shape.kernel[0]):
        for column in range(shape.kernel[1]):
            if shape.taps:
                field = shape.taps.fields[row, column]
                found.append((0 if field.word == CARRIED else first + field.word, field.left))
            else:
                word, half = shape.place(row)
                found.append((first + column * len(shape.words) + word, HALF * (1 - half)))
    return found


def _twin(name: str, shape: Depthwise, epilogue: Epilogue) -> str:
    """The same integers in plain C."""
    bits = shape.taps.bits if shape.taps else HALF
    places = _places(shape, epilogue)
    count, whole = len(channel_order(shape.channels)), shape.channels - shape.channels % QUAD
    last = shape.channels - (count - whole)
    channel = "n" if count == shape.channels else f"n < {whole} ? n : n - {whole - last}"
    result = "y[at] = (uint8_t)v;" if epilogue.size == 1 else "((int32_t *)(void *)y)[at] = v;"
    body = "\n".join(f"                {line}" for line in epilogue.c(1))
    return f"""\
static void {name}({ARGUMENTS})
{{
    static const uint8_t word[] = {{{", ".join(str(one) for one, _ in places)}}}; /* where each tap's weight lies */
    static const uint8_t left[] = {{{", ".join(str(one) for _, one in places)}}};
    (void)scratch;
    for (int32_t n = 0; n < {count}; n++) {{
        const int32_t channel = {channel};
        const uint32_t *c = w + 1;
        for (int32_t row = 0; row < {shape.rows}; row++) {{
            for (int32_t column = 0; column < {shape.outputs}; column++) {{
                const int32_t at = (row * {shape.outputs} + column) * {shape.channels} + channel;
                uint32_t sum = w[0];
                for (int32_t i = 0; i < {shape.kernel[0]}; i++) {{
                    for (int32_t j = 0; j < {shape.kernel[1]}; j++) {{
                        const int32_t x = column * {shape.stride[1]} + j - {shape.before};
                        const uint8_t *line = rows[row * {shape.stride[0]} + i];
                        const int pad = x < 0 || x >= {shape.columns};
                        const int32_t value = pad ? {shape.pad} : line[x * {shape.channels} + channel];
                        const int32_t at_tap = i * {shape.kernel[1]} + j;
                        const int32_t field = (int32_t)(w[word[at_tap]] << left[at_tap]) >> {2 * HALF - bits};
                        sum += (uint32_t)(value * field * {1 << (HALF - bits)});
                    }}
                }}
                int32_t v = (int32_t)sum;
                (void)c;
{body}
                {result}
            }}
        }}
        w += {words_a_channel(shape, epilogue)};
    }}
}}
"""
