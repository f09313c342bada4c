"""What a Requant costs by its form: instructions a value under QEMU beside what the C backend's cost model says.

`make bench-requants` measures a table of small graphs on each kind of core, prints it, and fits the cost of every piece
(a multiplication, a rounding, a parameter read from a table ...) to it: the figures of edgeflow/backends/c/cost.py.
It writes build/bench/requants.json. Instructions, not cycles: they do not drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from measured import instructions

from edgeflow.artifacts import write_json
from edgeflow.backends.c.cost import core_cost
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.epilogue import Piece
from edgeflow.board import McuBoard, load_board
from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.semantics.builder import GraphBuilder

BOARDS = ("rpi-pico", "stm32f103c8")
"""A Cortex-M0+ and a Cortex-M3: code for Cortex-M4, M7 and M33 takes the same instructions to within one."""
VALUES = 128
_FINE, _UNIT = 30, Dyadic(0)
_TWO_STAGES = ((31, Rounding.HALF_UP), (9, Rounding.HALF_AWAY))

Stages = tuple[tuple[int, Rounding], ...]


@dataclass(frozen=True)
class Form:
    """A Requant to 8 bits. `tables` names the parameters that differ from channel to channel."""

    stages: Stages
    multiplier: int = 1
    bias: int = 0
    offset: int = 0
    tables: str = ""

    def __str__(self) -> str:
        stages = ", ".join(f"{rounding.value} {shift}" for shift, rounding in self.stages)
        parts = {"x": self.multiplier != 1, "bias": self.bias, "offset": self.offset}
        words = [name for name, there in parts.items() if there]
        return f"{' '.join([*words, stages])}{f' [{self.tables}]' if self.tables else ''}"

    def op(self) -> Requant:
        """The op."""

        def parameter(value: int, letter: str) -> IntArray:
            differs = letter in self.tables and value
            return frozen_array(value + np.arange(VALUES) % 2 if differs else [value])

        return Requant(
            pre=frozen_array([0]),
            multiplier=parameter(self.multiplier, "m"),
            stages=tuple(Stage(parameter(shift, "s" if shift != 31 else ""), how) for shift, how in self.stages),
            offset=parameter(self.offset, "o"),
            lo=frozen_array([-128]),
            hi=frozen_array([127]),
            bias=parameter(self.bias, "b"),
        )


def forms() -> Iterator[Form]:
    """32 and 64 bits, with and without each piece."""
    narrow, wide = (8, 10), (38, 40)
    for shifts, multiplier, bias in ((narrow, 1, 77), (wide, (1 << _FINE) + 12345, (1 << 38) + 5)):
        for shift, how, tables in product(shifts, Rounding, ("", "s", "ms")):
            yield Form(((shift, how),), multiplier, tables=tables)
        for how, tables in product((Rounding.HALF_UP, Rounding.HALF_EVEN), ("", "b", "bms")):
            yield Form(((shifts[0], how),), multiplier, bias, tables=tables)
        for tables in ("", "o"):
            yield Form(((shifts[0], Rounding.HALF_EVEN),), multiplier, offset=-20, tables=tables)
    for multiplier, tables in product((1, 77), ("", "m", "ms")):
        yield Form(((14, Rounding.HALF_EVEN),), multiplier, tables=tables)
    for offset, tables in product((0, -20, -128), ("", "m", "ms")):
        yield Form(_TWO_STAGES, (1 << _FINE) + 12345, 0, offset, tables)


def graph(op: Op | None, *, alone: bool) -> Graph:
    """The op on its own, or behind a Dense of two inputs; None leaves it out."""
    random = np.random.default_rng(5)
    builder = GraphBuilder("requant")
    if alone:
        at = builder.input("x", TensorType((VALUES,), -(1 << 17), (1 << 17) - 1), _UNIT)
    else:
        at = builder.input("x", TensorType((2,), -128, 127), _UNIT)
        weight, bias = random.integers(-127, 128, (2, VALUES)), random.integers(-60_000, 60_000, VALUES)
        at = builder.add(Dense(frozen_array(weight), frozen_array(bias)), (at,), _UNIT, "sums")
    if op is not None:
        at = builder.add(op, (at,), _UNIT, "requant")
    builder.output("y", at)
    return builder.finish()


def pieces(graph: Graph) -> Mapping[tuple[Piece, bool], int]:
    """How often a graph's Requant does each piece."""
    found: dict[tuple[Piece, bool], int] = {}
    for kernel in emit_model(graph).kernels:
        for one in kernel.epilogue.pieces if kernel.epilogue else ():
            found[one] = found.get(one, 0) + 1
    return found


Row = tuple[Form, bool, float, Mapping[tuple[Piece, bool], int]]


def measure(board: McuBoard) -> Iterator[Row]:
    """Each form, whether it stands alone, its instructions a value and its pieces."""
    for alone in (False, True):
        nothing = instructions(graph(None, alone=alone), board)
        for form in dict.fromkeys(forms()):
            made = graph(form.op(), alone=alone)
            yield form, alone, (instructions(made, board) - nothing) / VALUES, pieces(made)


def fit(rows: list[Row]) -> dict[tuple[Piece, bool], float]:
    """The cost of each piece by least squares, none below 0, relative errors alike."""
    names = sorted({one for *_, done in rows for one in done}, key=lambda one: (one[1], one[0].name))
    counts = np.array([[done.get(one, 0) for one in names] for *_, done in rows], dtype=float)
    found = np.array([value for _, _, value, _ in rows])
    weight = 1 / (np.abs(found) + 12)
    costs = np.zeros(len(names))
    for _ in range(2000):  # coordinate descent: the system is tiny
        for column in range(len(names)):
            rest = found - counts @ costs + counts[:, column] * costs[column]
            scaled = counts[:, column] * weight
            costs[column] = max(0.0, float(scaled @ (rest * weight)) / float(scaled @ scaled))
    return dict(zip(names, costs.tolist(), strict=True))


def main() -> None:
    """Prints the tables and writes build/bench/requants.json."""
    result: dict[str, object] = {}
    for name in BOARDS:
        board = load_board(name)
        assert isinstance(board, McuBoard)
        model, rows = core_cost(board.core).pieces, list(measure(board))
        print(f"\n{board.core.title}: instructions a value\n{'form':44} {'behind':>7} {'counted':>8} {'model':>6}")
        listed: list[dict[str, object]] = []
        for form, alone, value, done in rows:
            guess = sum(model[piece][wide] * times for (piece, wide), times in done.items())
            print(f"{form!s:44} {'nothing' if alone else 'Dense':>7} {value:8.1f} {guess:6.1f}")
            listed.append({"form": str(form), "alone": alone, "counted": value, "model": guess})
        print(f"\n{'piece':14} {'32 bits':>8} {'64 bits':>8}   fitted")
        fitted = fit(rows)
        for piece in Piece:
            print(f"{piece.name:14} {fitted.get((piece, False), 0):8.1f} {fitted.get((piece, True), 0):8.1f}")
        result[board.core.value] = listed
    path = Path("build/bench/requants.json")
    write_json(path, {"what": "instructions a value of a Requant, C backend under QEMU", "cores": result})
    print(path)


if __name__ == "__main__":
    main()
