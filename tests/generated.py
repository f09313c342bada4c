"""Writes docs/generated-c.md: what makes each op's kernel on each core, and the rules that the C does not keep."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from edgeflow.artifacts import write_file
from edgeflow.backends.c.emit import Emitted, emit_model
from edgeflow.backends.c.kernel import Kernel
from edgeflow.backends.c.kernels import KERNELS, SPECIAL
from edgeflow.backends.c.memory import memory_map
from edgeflow.board import Core
from edgeflow.datafiles import data_folder
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, IntArray, Shape, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Rounding
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.passes import simplify
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.misra import DEVIATIONS
from tests.backends.c.students import binary, separable
from tests.crossing import FORMS, FRAC, Form, requant
from tests.support import code, rows

PAGE = Path(__file__).resolve().parent.parent / "docs" / "generated-c.md"

HEAD = """# The generated C

Made by `make docs` from the code itself; a test holds it up to date. `edgeflow build --backend c` writes one `.c` and
one `.h` that hold a model: C99 that is C++ as well, without allocation, recursion, state of its own or any library but
`stdint.h`, `stddef.h` and `string.h` (of which it calls `memcpy` and `memset`).

## One source or several

`--set files=split` writes the same code as three sources: `<prefix>.c` has the order of calls and `<prefix>_run`,
`<prefix>_kernels.c` a function a layer, `<prefix>_tables.c` weights and other tables; `<prefix>_internal.h` is theirs
alone. Every name that the linker sees starts with the prefix (`--set prefix=NAME`), so that several models make one
program. As one file (`--set files=one`, the default) all but `<prefix>_run` and `<prefix>_version` is static.

The macro `<PREFIX>_TABLE` stands before the definition of each layer's tables and of the order of calls. It is empty
unless you define it, and the same in every file:

    -DNET_TABLE='__attribute__((section(".net_tables")))'

places them in a section of their own, for a second flash or for RAM that start-up code fills. Constants that functions
keep beside them, pointers to tables and rows of padding, stay with the program's other constants.
"""

USE = """## What the header offers

All memory of an inference is one union, `<prefix>_arena_t`, that the caller owns: write `in_X.data`, call
`<prefix>_run(&arena)`, read `out_Y.data`. Several arenas make several inferences at a time.

- `<prefix>_in_X_quantize(real)` turns a float into an input's integer: divided by the scale (exact where it is a power
  of two, else in double), rounded half to even, plus the zero point, clamped to the input's interval; NaN counts as 0.
  These are the integers that `edgeflow verify` feeds, for every float.
- `<prefix>_out_Y_dequantize(value)` gives an output's real value as a float.
- Where the unit differs by channel both take the channel as well. They are `static inline` and the only floating-point
  code: a program that does not call them has none. `<PREFIX>_NO_FLOAT`, defined, leaves them out. Where a scale is no
  power of two, quantize computes in double: without double in hardware that is some 3 kB of the compiler's library.
- `<PREFIX>_VERSION` and `<PREFIX>_DIGEST` name the edgeflow and the graph that the code was made from. The constant
  `<prefix>_version` holds the former in flash; `memory.ld` keeps it where nothing reads it.

Sizes, the places of inputs and outputs in the arena, two's complement, arithmetic shifts and the width of int are
checked when the code is compiled: a header that belongs to another source does not compile with it.
"""

MEMORY = """## How the arena is planned

All that an inference writes but the stack lies in the arena: inputs, outputs, rows of tensors, and what a kernel needs
while it runs. The order of calls is fixed when the code is made. Two orders are planned, and the smaller arena stays:

- layer after layer, whole tensors;
- by rows: a layer makes its next rows as soon as it can, and a row's bytes are free once it was read for the last
  time. How many rows a layer makes first, and whether it waits until its operand is whole, is searched for a layer at
  a time, for the fewest bytes alive at once. No row is computed twice.

A result may lie over an operand where its kernel allows that. The bound that `build` prints holds for the order that
was chosen: so many bytes are alive in one call, whatever their places (parts that a result may lie over count once).
Another order may need less. What none can do without is less: all inputs, the result row of the first call and its
scratch, or what one row of some layer reads, makes and needs. `make bench-networks` prints both for twelve networks.
The search is counted, not timed: the same model gives the same plan on every machine.
"""

MATRIX = """## Which kernel makes what

Asked of the generator: the op in this form was generated for each core. Cores that do everything alike share a column.

{table}

{legend}
"""

ASKED = """### Kernels that need some numbers

Before the plain kernel of an op these are asked in turn, and the first that can makes it:

{table}
"""

PACKED = """## Activations of few bits

A tensor whose values need 1, 2 or 4 bits may be kept packed, 8, 4 or 2 values a byte. Layers that work by rows
unpack the rows that they read to working memory and pack those that they make; what is read or made as a whole is
unpacked or packed by a step of its own, in place. The model's inputs and outputs stay as the header has them: an input
is packed first, where that saves. `--optimize balanced` packs what makes the arena smaller by 5 % and more at no more
than one instruction for ten multiplications, `size` by 1 %, `speed` nothing. The map of RAM that `edgeflow build`
prints names what is packed. On Cortex-M4F:

{table}
"""

MISRA = """## MISRA C:2012

`cppcheck` with its MISRA addon checks every kernel in the tests. The code departs from these rules; no mandatory one is
among them. Rules that the addon cannot check are not claimed.

{table}
"""


def _bytes(weight: IntArray, shape: Shape, *, groups: int = 1) -> Callable[[GraphBuilder], str]:
    """A layer as networks have them: unsigned bytes in, a power-of-two Requant, unsigned bytes out."""

    def make(builder: GraphBuilder) -> str:
        at = builder.input("x", TensorType(shape, 0, 255), Dyadic(FRAC))
        bias = frozen_array(np.arange(weight.shape[-1]) * 7)
        pads = tuple(((size - 1) // 2, size // 2) for size in weight.shape[:-2])
        op = Conv(weight, bias, (1,) * len(pads), pads, (1,) * len(pads), groups) if pads else Dense(weight, bias)
        at = builder.add(op, (at,), Dyadic(FRAC), "linear")
        shift = max(builder.type(at).bits - 8, 1)
        return builder.add(requant(shift, Rounding.HALF_UP, lo=0, hi=255), (at,), Dyadic(FRAC), "squeeze")

    return make


def _weights(*shape: int, most: int = 127, keep: float = 1.0, block: int = 1) -> IntArray:
    """Seeded weights; the part `keep` of all blocks of so many outputs is not zero."""
    rng = np.random.default_rng(5)
    kept = np.repeat(rng.random((*shape[:-1], -(-shape[-1] // block))) < keep, block, axis=-1)[..., : shape[-1]]
    return frozen_array(rng.integers(-most, most + 1, shape) * kept)


def _rescaled(builder: GraphBuilder) -> str:
    """A sum of two tensors of bytes in units of their own, as TFLite and QKeras have them."""
    at = [builder.input(name, TensorType((8, 8, 8), 0, 255), Dyadic(FRAC)) for name in ("x", "other")]
    wide = builder.add(requant(0, multiplier=4, lo=0, hi=1023), (at[1],), Dyadic(FRAC), "wide")
    total = builder.add(Add((1, 1)), (at[0], wide), Dyadic(FRAC), "add")
    return builder.add(requant(3, Rounding.HALF_UP, lo=0, hi=255), (total,), Dyadic(FRAC), "squeeze")


def _pooled(kind: type[MaxPool] | type[SumPool], size: int, builder: GraphBuilder) -> str:
    """Bytes that are pooled, as classifiers do it."""
    at = builder.input("x", TensorType((8, 8, 8), 0, 255), Dyadic(FRAC))
    return builder.add(kind((size, size), (size, size), ((0, 0), (0, 0))), (at,), Dyadic(FRAC), "pool")


USUAL = (
    Form("Conv", "3x3, bytes to bytes", _bytes(_weights(3, 3, 8, 8), (8, 8, 8))),
    Form("Conv", "1x1, bytes to bytes", _bytes(_weights(1, 1, 16, 16), (8, 8, 16))),
    Form("Conv", "5x3 of one channel, bytes to bytes", _bytes(_weights(5, 3, 1, 8), (8, 8, 1))),
    Form("Conv", "depthwise 3x3, bytes to bytes", _bytes(_weights(3, 3, 1, 16), (8, 8, 16), groups=16)),
    Form("Add", "bytes to bytes", _rescaled),
    Form("MaxPool", "2x2 of bytes", partial(_pooled, MaxPool, 2)),
    Form("SumPool", "everything, bytes", partial(_pooled, SumPool, 8)),
    Form("Dense", "128 to 128, bytes to bytes", _bytes(_weights(128, 128), (128,))),
    Form("Dense", "weights of 4 bits", _bytes(_weights(128, 128, most=7), (128,))),
    Form("Dense", "ternary weights", _bytes(_weights(128, 128, most=1), (128,))),
    Form("Dense", "one weight of four not 0", _bytes(_weights(128, 128, keep=0.25), (128,))),
    Form("Dense", "one block of four weights of four not 0", _bytes(_weights(128, 128, keep=0.25, block=4), (128,))),
)
"""Layers as networks have them, which the faster kernels are for."""


@cache
def graphs() -> tuple[tuple[Form, Graph], ...]:
    """Every form that the backend takes, as `build` hands it over."""
    made = ((form, simplify(form.graph())) for form in (*USUAL, *FORMS))
    return tuple((form, graph) for form, graph in made if all(map(_known, (type(one.op) for one in graph.nodes))))


def _known(op: type) -> bool:
    return op in KERNELS or op is Reshape


def answer(form: Form, made: Emitted) -> str:
    """The kernels of the form's own op: those of the layers that hold it, fused into another op's or not."""
    steps = zip(made.lowered.steps, made.kernels, strict=True)
    own = [
        kernel
        for step, kernel in steps
        if any(
            type(one.op).__name__ == form.op for one in ((*step.before, step.node, *step.fused) if step.node else ())
        )
    ]
    names = dict.fromkeys(code(kernel.template) for kernel in own)
    return ", ".join(names) or "no code"


@cache
def generated() -> tuple[dict[Core, list[str]], dict[str, str]]:
    """Each core's answers, form by form, and every kernel in words."""
    answers: dict[Core, list[str]] = {}
    words: dict[str, str] = {}
    for core in Core:
        found = [(form, emit_model(graph, core=core)) for form, graph in graphs()]
        answers[core] = [answer(form, made) for form, made in found]
        words |= {kernel.template: told(kernel) for _, made in found for kernel in made.kernels}
    return answers, words


def told(kernel: Kernel) -> str:
    """What a kernel's template says of itself, else its class."""
    head = (data_folder("templates") / "c" / "ops" / f"{kernel.template}.c.j2").read_text().partition("\n")[0]
    return head.removeprefix("{# ").removesuffix(" #}").rstrip(".") if head.startswith("{#") else _words(type(kernel))


def matrix_rows() -> Iterator[list[str]]:
    """Op and form by groups of cores that answer alike."""
    groups: dict[tuple[str, ...], list[Core]] = defaultdict(list)
    for core, found in generated()[0].items():
        groups[tuple(found)].append(core)
    yield ["op", "form", *(", ".join(core.title for core in cores) for cores in groups.values())]
    for number, (form, _) in enumerate(graphs()):
        yield [form.op, form.title, *(found[number] for found in groups)]


def legend() -> str:
    """The kernels by the names in the matrix, each with its class' own words."""
    return "\n".join(f"- `{name}`: {words}" for name, words in sorted(generated()[1].items()))


def _words(thing: object) -> str:
    """The first sentence of a documentation, or of a partial's function."""
    found = inspect.getdoc(thing.func if isinstance(thing, partial) else thing) or ""
    first = " ".join(found.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")
    return first[:1].lower() + first[1:] if first.startswith(("A ", "An ", "The ")) else first


def asked_rows() -> Iterator[list[str]]:
    """Special makers, in the order in which they are asked."""
    yield ["op", "asked", "function", "makes"]
    for op, makers in SPECIAL.items():
        for number, maker in enumerate(makers, start=1):
            place = f"{maker.__module__.removeprefix('edgeflow.backends.c.')}.{maker.__qualname__}"
            yield [op.__name__, f"{number}.", code(place), _words(maker)]


STUDENTS: Mapping[str, Callable[[], Graph]] = {
    "depthwise and 1x1 convolutions, 4 bits": separable,
    "binary images and activations": binary,
}


def packed_rows() -> Iterator[list[str]]:
    """What is kept packed in networks of few bits, of all that lies in the arena."""
    yield ["network", "arena", "packed"]
    for name, make in STUDENTS.items():
        made = emit_model(make(), core=Core.CORTEX_M4F)
        held = {one.what for moment in memory_map(made).moments for one in moment.held}
        yield [name, f"{made.plan.size:,} bytes", ", ".join(sorted(one for one in held if "a value" in one))]


def misra_rows() -> Iterator[list[str]]:
    """Rule, category, reason."""
    yield ["rule", "category", "why not"]
    for rule, one in DEVIATIONS.items():
        yield [rule, one.category, one.why]


def page() -> str:
    """The whole page."""
    tables: Sequence[str] = (
        HEAD,
        USE,
        MEMORY,
        MATRIX.format(table=rows(list(matrix_rows())), legend=legend()),
        ASKED.format(table=rows(list(asked_rows()))),
        PACKED.format(table=rows(list(packed_rows()))),
        MISRA.format(table=rows(list(misra_rows()))),
    )
    return "\n".join(tables)


if __name__ == "__main__":
    write_file(PAGE, page().encode())
