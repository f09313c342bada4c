"""What the loops of the generated C cost on each kind of core: figures fitted to counts under QEMU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeflow.backends.c.epilogue import Piece
from edgeflow.board import Architecture, Core

_Pieces = Mapping[Piece, tuple[float, float]]


@dataclass(frozen=True)
class CoreCost:
    """Instructions and code bytes of the plain loops on one kind of core; `cycles` per instruction.

    A product is one multiplication by one of the weights of a block of outputs, a value one that is read for a block,
    and gathered before where it does not lie beside the others. A written tap and row are those of a depthwise window
    that is written out. A tap is one element of a pool (a word tap one of a sum that takes four at a time) or of a
    loop of a grouped convolution, a wide tap one multiply-accumulate in 64 bits; a window is one kernel position of
    one result, a checked one lies in a padded input, and a single one has one channel: its tap is part of it; a
    grouped one costs so much more. A result is what is stored behind such loops, an element what is read, and stored,
    without, a sum what a plane makes of two bytes. `pieces` is what the statements of a Requant, Lut or Threshold do
    to a value, in 32 and in 64 bits. A compare is one threshold of a result, or one element that is looked at; a
    softmax computes two exponentials of each channel (or reads them) and one reciprocal, or interpolates between a
    table's entries; `per_moved` is one element of a short run, a longer run is a memcpy and its bytes.

    Fitted to what `make bench-mcu` and, for the pieces, `make bench-requants` count under QEMU; cycles from the cores'
    instruction timing (one, two for a load, two to three for a taken branch), flash wait states not counted.
    """

    per_value: float
    per_product: float
    per_block: float
    per_gathered: float
    per_written_tap: float
    per_written_row: float
    per_tap: float
    per_wide_tap: float
    per_window: float
    per_checked_window: float
    per_single_window: float
    per_checked_single_window: float
    per_grouped_window: float
    per_pool_tap: float
    per_checked_pool_tap: float
    per_word_tap: float
    per_result: float
    per_element: float
    per_sum: float
    pieces: _Pieces
    per_moved: float
    per_memcpy: float
    per_byte: float
    per_compare: float
    per_exponential: float
    per_reciprocal: float
    per_interpolated: float
    per_call: float
    code_base: int
    code_per_window_step: int
    code_per_dense_step: int
    code_per_product: int
    code_per_element_step: int
    code_wide: int
    code_per_wide_step: int
    code_softmax: int
    code_exponential: int
    code_interpolated: int
    code_per_call: int
    code_per_sweep: int
    stack: int
    stack_window: int
    stack_wide: int
    cycles: float


@dataclass(frozen=True)
class DspCost:
    """Instructions of the DSP layers: for each multiplication of a tile product of positions, of a vector spread
    before, of a vector's bytes; for each value of a vector that is spread to 16 bits, once or in the product itself for
    each group of its outputs; for each position and each of its values that are gathered, for each run of values where
    a position has more, and more so where it may lie beside the input; for each value of a run that is copied, for each
    row that is copied with its padding, and each byte of it; for each position of a row that is gathered, each run and
    each value of it, and each part of a row that is copied with its padding; for what surrounds each call of a
    depthwise function, for each result of a product, and for each value whose sum packed weights need. `positions`: of
    a tile that computes with packed weights, on average.

    Fitted to what `make bench-mcu` counts under QEMU; `stack` in bytes, more where there are convolutions.
    """

    per_product: float = 0.71
    per_spread_product: float = 0.85
    per_dense_product: float = 0.98
    per_spread: float = 1.5
    per_byte_spread: float = 0.65
    per_position: float = 18.0
    per_gathered: float = 1.0
    per_run: float = 11.0
    per_checked_run: float = 12.0
    per_copied: float = 0.8
    per_line: float = 9.0
    per_line_byte: float = 0.6
    per_depthwise_call: float = 80.0
    per_row_position: float = 4.0
    per_row_run: float = 5.0
    per_row_value: float = 0.97
    per_part: float = 70.0
    per_product_result: float = 5.5
    per_sum: float = 0.7
    positions: float = 3.4
    code_per_layer: int = 140
    stack: int = 90
    stack_window: int = 230


DSP = DspCost()


_ARMV7 = CoreCost(
    per_value=1.9,
    per_product=2.0,
    per_block=12.5,
    per_gathered=4.0,
    per_written_tap=3.0,
    per_written_row=3.0,
    per_tap=5.0,
    per_wide_tap=5.2,
    per_window=8.0,
    per_checked_window=20.0,
    per_single_window=9.4,
    per_checked_single_window=16.5,
    per_grouped_window=1.0,
    per_pool_tap=4.1,
    per_checked_pool_tap=12.0,
    per_word_tap=2.8,
    per_result=4.5,
    per_element=2.5,
    per_sum=8.3,
    pieces={
        Piece.LOAD: (0.9, 0.5),
        Piece.MULTIPLY: (0.8, 1.0),
        Piece.HIGH_PRODUCT: (1.5, 1.5),
        Piece.ADD: (0.5, 1.7),
        Piece.SHIFT: (0.6, 0.0),
        Piece.SHIFT_LOADED: (2.7, 14.0),
        Piece.HALF_UP: (1.6, 4.2),
        Piece.HALF_EVEN: (4.7, 9.9),
        Piece.HALF_AWAY: (2.9, 7.4),
        Piece.CLAMP: (2.2, 5.6),
    },
    per_moved=4.5,
    per_memcpy=7.0,
    per_byte=0.5,
    per_compare=6.0,
    per_exponential=130.0,
    per_reciprocal=90.0,
    per_interpolated=19.0,
    per_call=20.0,
    code_base=290,
    code_per_window_step=140,
    code_per_dense_step=100,
    code_per_product=8,
    code_per_element_step=110,
    code_wide=100,
    code_per_wide_step=85,
    code_softmax=420,
    code_exponential=300,
    code_interpolated=165,
    code_per_call=50,
    code_per_sweep=20,
    stack=84,
    stack_window=125,
    stack_wide=12,
    cycles=1.4,
)
_ARMV6 = CoreCost(
    per_value=2.9,
    per_product=4.0,
    per_block=25.0,
    per_gathered=6.3,
    per_written_tap=8.2,
    per_written_row=4.3,
    per_tap=7.1,
    per_wide_tap=52.0,
    per_window=8.2,
    per_checked_window=30.0,
    per_single_window=10.5,
    per_checked_single_window=17.0,
    per_grouped_window=5.0,
    per_pool_tap=5.0,
    per_checked_pool_tap=16.0,
    per_word_tap=5.0,
    per_result=8.8,
    per_element=3.5,
    per_sum=13.5,
    pieces={
        Piece.LOAD: (1.3, 0.0),
        Piece.MULTIPLY: (2.1, 37.0),
        Piece.HIGH_PRODUCT: (50.0, 50.0),
        Piece.ADD: (1.7, 5.1),
        Piece.SHIFT: (1.2, 16.5),
        Piece.SHIFT_LOADED: (4.9, 31.0),
        Piece.HALF_UP: (3.6, 14.4),
        Piece.HALF_EVEN: (8.5, 26.0),
        Piece.HALF_AWAY: (6.2, 19.2),
        Piece.CLAMP: (2.4, 5.4),
    },
    per_moved=6.0,
    per_memcpy=48.0,
    per_byte=0.7,
    per_compare=8.5,
    per_exponential=590.0,
    per_reciprocal=500.0,
    per_interpolated=73.0,
    per_call=25.0,
    code_base=420,
    code_per_window_step=190,
    code_per_dense_step=130,
    code_per_product=8,
    code_per_element_step=120,
    code_wide=200,
    code_per_wide_step=155,
    code_softmax=450,
    code_exponential=400,
    code_interpolated=370,
    code_per_call=64,
    code_per_sweep=50,
    stack=92,
    stack_window=150,
    stack_wide=55,
    cycles=1.5,
)


_RV32 = replace(
    _ARMV7,
    per_product=3.0,
    per_written_tap=4.5,
    per_written_row=3.5,
    per_gathered=4.4,
    per_window=6.9,
    per_single_window=11.8,
    per_result=8.9,
    per_wide_tap=9.0,
    pieces={
        **_ARMV7.pieces,
        Piece.SHIFT_LOADED: (2.7, 16.0),
        Piece.HALF_UP: (1.6, 4.8),
        Piece.HALF_EVEN: (4.7, 10.0),
        Piece.HALF_AWAY: (2.9, 9.3),
        Piece.CLAMP: (3.9, 6.6),
    },
    code_base=250,
    code_per_call=40,
    code_per_product=18,
    stack=104,
    stack_window=160,
    stack_wide=12,
    cycles=1.3,
)
"""A product takes an addition of its own. The cycles are those of a core that has one stage for loads and branches."""


_CORTEX_M7 = replace(_ARMV7, per_checked_window=24.0, per_checked_single_window=20.5, per_checked_pool_tap=16.5)
"""The compiler tunes its branches for this core, whose branch prediction makes up for them."""

_CORTEX_M55 = replace(_ARMV7, per_tap=4.0)
"""A low-overhead loop ends in one instruction."""


def core_cost(core: Core) -> CoreCost:
    """The cost model of a core."""
    if core.architecture is Architecture.RISCV:
        return _RV32
    if core is Core.CORTEX_M7:
        return _CORTEX_M7
    if core is Core.CORTEX_M55:
        return _CORTEX_M55
    return _ARMV6 if core.traps_unaligned else _ARMV7
