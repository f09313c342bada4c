"""The matrix product on MVE: one or two positions times four outputs, sixteen multiplications an instruction.

    static void NAME(const int8_t *x, const uint32_t *w, uint8_t *y, int32_t outputs);

x: the bytes of each position, 16 * vectors of them. w: for each group of four outputs the words that `pack` wrote.
y[distance * p + j] receives output j of position p. All eight sums of a group stay in the even registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.mve.finish import Finish, Lines, add, assembly_block, vector
from edgeflow.backends.c.mve.forms import VectorForm
from edgeflow.ir.types import IntArray

LANES = 16
GROUP = 4
"""Outputs of a pass."""
_SUMS = ("r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr")
_WRITTEN_OUT = 8
"""Vectors of a position without a loop; those of two lie within the 508 bytes that a load of words can reach."""
_CHUNK = 4
"""Vectors that a loop's body has."""


@dataclass(frozen=True)
class Product:
    """One function. `vectors` of 16 bytes a position; `distance` between positions in y.

    `direct`: x may lie at any address, not at a multiple of 4. `rest`: the outputs are no multiple of four.
    """

    positions: int
    vectors: int
    distance: int
    finish: Finish
    direct: bool
    rest: bool

    @property
    def written_out(self) -> bool:
        """Whether all vectors lie within reach of one register, and no loop is needed."""
        return not self.direct and self.vectors <= _WRITTEN_OUT

    @property
    def sums(self) -> tuple[tuple[str, ...], ...]:
        """The registers of each position's four sums."""
        return tuple(_SUMS[GROUP * one : GROUP * (one + 1)] for one in range(self.positions))


def pack(weights: IntArray, forms: Sequence[VectorForm], finish: Finish, flipped: bool) -> npt.NDArray[np.uint32]:
    """The words that the function reads, for weights (outputs, values) of 8 bits.

    For each group of four outputs: its bytes, sixteen of each output in turn; then each constant of the four.
    `flipped`: x comes less 128, which the addend makes good. What is missing to four outputs or sixteen values is 0.
    """
    outputs, values = weights.shape
    groups, vectors = -(-outputs // GROUP), -(-values // LANES)
    filled = np.zeros((groups * GROUP, vectors * LANES), np.int8)
    filled[:outputs, :values] = weights
    lanes = filled.reshape(groups, GROUP, vectors, LANES).transpose(0, 2, 1, 3)
    constants = np.zeros((groups * GROUP, finish.constants), np.int64)
    constants[:outputs] = [finish.words(one) for one in forms]
    if flipped:
        constants[:outputs, 0] += finish.start(128 * weights.sum(axis=1))
    heads = (constants & 0xFFFFFFFF).astype("<u4").reshape(groups, GROUP, -1).transpose(0, 2, 1)
    words = np.ascontiguousarray(lanes).reshape(groups, -1).view("<u4")
    return np.concatenate([words, heads.reshape(groups, -1)], axis=1).reshape(-1)


def source(name: str, product: Product, finish: str) -> str:
    """The C text of the function: assembly where the core has MVE, else its twin, which calls `finish`."""
    parameters = ("const int8_t *x", "const uint32_t *w", "uint8_t *y", "int32_t outputs")
    return vector(name, parameters, _assembly(product), _twin(product, finish))


def _assembly(product: Product) -> Lines:
    saved = ["d8-d11"] if product.finish.bounded else []
    count = f"[sp, #{32 * len(saved)}]"
    return [
        *assembly_block("x in r1, w in r5, y in r7 and r3, outputs in r9", _enter(product, saved)),
        *assembly_block("a group: the sums of four outputs", ["1:", *_multiply(product, count)]),
        *assembly_block("outputs to lanes, requantized", _requantize(product)),
        *assembly_block("store, next group", _store(product)),
        *assembly_block("leave", [*(f"vpop {{{one}}}" for one in saved), "pop {r3-r11, pc}"]),
    ]


def _enter(product: Product, saved: Sequence[str]) -> Lines:
    lines = ["push {r3-r11, lr}", *(f"vpush {{{one}}}" for one in saved)]
    lines += ["mov r5, r1", "mov r1, r0", "mov r7, r2", "mov r9, r3"]
    if product.positions > 1:
        lines += add("r3", "r7", product.distance, "r0")
        lines += [] if product.written_out else add("r11", "r1", LANES * product.vectors, "r0")
    if product.finish.clamp.offset and product.written_out:
        lines.append(f"movw r11, #{product.finish.clamp.offset & 0xFFFF}")
    return [*lines, *product.finish.ends("r0")]


def _multiply(product: Product, count: str) -> Lines:
    """The sums; `count` is where the outputs that are left lie meanwhile."""
    size = LANES * product.vectors
    if product.written_out:
        return [
            line
            for vector in range(product.vectors)
            for line in _vector(
                product, [f"[r1, #{size * p + LANES * vector}]" for p in range(product.positions)], vector
            )
        ]
    places = [f"[{register}], #{LANES}" for register in ("r1", "r11")[: product.positions]]
    first = (product.vectors - 1) % _CHUNK + 1
    loops = (product.vectors - first) // _CHUNK
    lines = [line for vector in range(first) for line in _vector(product, places, vector)]
    if not loops:
        return lines
    body = [line for _ in range(_CHUNK) for line in _vector(product, places, 1)]
    loop = [f"movw r9, #{loops}", "2:", *body, "subs r9, #1", "bne 2b"]
    return [f"str r9, {count}", *lines, *loop, f"ldr r9, {count}"]


def _vector(product: Product, places: Sequence[str], number: int) -> Lines:
    """Sixteen values of each position times those of four outputs; the first begin the sums."""
    load = "vldrw.u32" if product.written_out else "vldrb.u8"
    lines = [f"{load} q{one}, {place}" for one, place in enumerate(places)]
    multiply = "vmladava.s8" if number else "vmladav.s8"
    for output in range(GROUP):
        q = f"q{2 + output % 2}"
        lines.append(f"vldrw.u32 {q}, [r5], #{LANES}")
        lines += [f"{multiply} {sums[output]}, q{one}, {q}" for one, sums in enumerate(product.sums)]
    return lines


def _requantize(product: Product) -> Lines:
    finish, lines = product.finish, Lines()
    vectors = [f"q{one}" for one in range(product.positions)]
    for q, sums in zip(vectors, product.sums, strict=True):
        lines += [f"vmov {q}[2], {q}[0], {sums[0]}, {sums[2]}", f"vmov {q}[3], {q}[1], {sums[1]}, {sums[3]}"]
    lines += finish.wide(vectors, "r5")
    offset = "r11" if product.written_out else "r0"
    if finish.clamp.offset and not product.written_out:
        lines.append(f"movw r0, #{finish.clamp.offset & 0xFFFF}")
    for q in vectors:
        lines += [f"vqmovnb.s32 {q}, {q}", *finish.offset(q, offset), *finish.narrow(q, q), *finish.bound(q)]
    return lines


def _store(product: Product) -> Lines:
    places = ("r7", "r3")[: product.positions]
    stores = [("vstrbt.32" if product.rest else "vstrb.32") + f" q{one}, [{y}], #4" for one, y in enumerate(places)]
    mask = ["vctp.32 r9", "vpst" if len(places) == 1 else "vpstt"] if product.rest else []
    walked = () if product.written_out else ("r1", "r11")[: product.positions]
    back = [line for register in walked for line in add(register, register, -LANES * product.vectors, "r0")]
    return [*mask, *stores, *back, f"subs r9, #{GROUP}", "bgt 1b"]


def _twin(product: Product, finish: str) -> Lines:
    return f"""\
    enum {{ POSITIONS = {product.positions}, VECTORS = {product.vectors} }};
    for (int32_t first = 0; first < outputs; first += {GROUP}) {{
        const int8_t *const weights = (const int8_t *)w;
        w += {LANES * GROUP // 4} * VECTORS;
        for (int32_t m = 0; m < {GROUP} && first + m < outputs; m++) {{
            for (int32_t p = 0; p < POSITIONS; p++) {{
                int32_t sum = 0;
                for (int32_t k = 0; k < {LANES} * VECTORS; k++) {{
                    const int32_t vector = k / {LANES};
                    const int32_t lane = k % {LANES};
                    sum += x[{LANES} * VECTORS * p + k] * weights[{LANES} * ({GROUP} * vector + m) + lane];
                }}
                y[{product.distance} * p + first + m] = (uint8_t){finish}(sum, w + m);
            }}
        }}
        w += {GROUP * product.finish.constants};
    }}""".splitlines()
