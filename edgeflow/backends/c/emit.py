"""Renders the C source and header of a graph."""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.backends.c.ctypes import CType
from edgeflow.backends.c.epilogue import helper_name
from edgeflow.backends.c.kernel import Context, Kernel
from edgeflow.backends.c.kernels import make_kernel
from edgeflow.backends.c.lower import Buffer, Lowered, lower, output_key
from edgeflow.backends.c.plan import Plan, plan_memory
from edgeflow.backends.c.rows import SoftmaxKernel
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Affine, Dyadic, Label, TensorType
from edgeflow.ops.requant import Rounding
from edgeflow.render import Identifiers, identifier, render
from edgeflow.semantics.serialize import graph_digest
from edgeflow.semantics.verify import verify


@dataclass(frozen=True)
class Port:
    """An input or output of the generated function."""

    title: str
    ident: str
    ctype: str
    elements: int
    shape: str
    lo: int
    hi: int
    meaning: str


@dataclass(frozen=True)
class Member:
    """A tensor in the arena union. Steps count from 1, as people do."""

    ident: str
    ctype: str
    elements: int
    offset: int
    first: int
    last: int


@dataclass(frozen=True)
class Helper:
    """A rounding shift as a C function."""

    name: str
    ctype: str
    words: str
    expression: str


@dataclass(frozen=True)
class Call:
    """One line of the run function."""

    function: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """Everything that the templates say about the model as a whole."""

    title: str
    prefix: str
    digest: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    arena: tuple[Member, ...]
    arena_size: int
    arena_sizeof: int
    steps: int
    helpers: tuple[Helper, ...]
    unread: tuple[str, ...]
    uses_string: bool
    softmax: bool
    exponential: bool


@dataclass(frozen=True)
class Emitted:
    """The generated model: its description, kernels, plan and the two files' text."""

    model: Model
    kernels: tuple[Kernel, ...]
    lowered: Lowered
    plan: Plan
    header: str
    source: str

    def output_buffer(self, name: str) -> Buffer:
        """The buffer that the output of that name is written to."""
        return self.lowered.buffer(output_key(name))


_WORDS = {
    Rounding.HALF_UP: ("rounding half up", "v + half"),
    Rounding.HALF_EVEN: ("rounding half to even", "v + (half - 1) + ((v >> shift) & 1)"),
    Rounding.HALF_AWAY: ("rounding half away from zero", "v + half - (v < 0)"),
}


def emit_model(graph: Graph, prefix: str | None = None) -> Emitted:
    """Lowers, plans and renders a graph. `prefix` starts every public C name; the graph's name by default."""
    bounds = verify(graph)
    shapes = {tensor.name: tensor.type.shape for tensor in graph.tensors()}
    lowered = lower(graph)
    plan = plan_memory(lowered)
    functions, members = Identifiers(), Identifiers()
    context = Context(lowered, bounds, shapes)
    kernels = tuple(  # the number keeps the function of a layer "a_weight" apart from the table of a layer "a"
        make_kernel(step, f"l{number}_{functions.of(step.result)}", context)
        for number, step in enumerate(lowered.steps, start=1)
    )
    model = _model(graph, public_prefix(prefix or graph.name), lowered, plan, kernels, members)
    names = _names(graph, lowered, model, members)
    calls = tuple(
        Call(kernel.name, tuple(names[one.tensor] for one in (*kernel.inputs, kernel.y))) for kernel in kernels
    )
    return Emitted(
        model,
        kernels,
        lowered,
        plan,
        render("c/model.h.j2", model=model),
        render("c/model.c.j2", model=model, kernels=kernels, calls=calls),
    )


_TAKEN = (
    "assert complex ctype errno fenv float features inttypes iso646 limits locale math setjmp signal stdalign stdarg"
    " stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype"
    " all clean depend edit_cache firmware help install main package rebuild_cache startup test"
)
"""Headers of the C library, and names that CMake and the project around the model use."""


def public_prefix(name: str) -> str:
    """The prefix of every public C name, and the stem of the model's files: no header's name, no build target's."""
    prefix = identifier(name)
    return f"{prefix}_model" if prefix in _TAKEN.split() else prefix


def _names(graph: Graph, lowered: Lowered, model: Model, members: Identifiers) -> dict[str, str]:
    """The C expression of every buffer."""
    names = {source.name: port.ident for source, port in zip(graph.inputs, model.inputs, strict=True)}
    for output, port in zip(graph.outputs, model.outputs, strict=True):
        names[lowered.buffer(output_key(output.name)).tensor] = port.ident
    for buffer in lowered.buffers.values():
        if buffer.place == "arena":
            names[buffer.tensor] = f"arena->{members.of(buffer.tensor)}.data"
    return names


def _model(
    graph: Graph, prefix: str, lowered: Lowered, plan: Plan, kernels: tuple[Kernel, ...], members: Identifiers
) -> Model:
    idents = Identifiers()
    idents.of("arena")
    inputs = tuple(
        _port(one.name, f"in_{identifier(one.name)}", idents, one.type, one.label, lowered.buffers[one.name].ctype)
        for one in graph.inputs
    )
    outputs: list[Port] = []
    for one in graph.outputs:
        tensor = graph.tensor(one.tensor)
        ctype = lowered.buffer(output_key(one.name)).ctype
        outputs.append(_port(one.name, f"out_{identifier(one.name)}", idents, tensor.type, tensor.label, ctype))
    arena = tuple(
        Member(
            members.of(one.tensor),
            lowered.buffers[one.tensor].ctype.name,
            lowered.buffers[one.tensor].elements,
            one.offset,
            one.first + 1,
            one.last + 1,
        )
        for one in plan.placed
    )
    alignment = max((lowered.buffers[one.tensor].ctype.size for one in plan.placed), default=1)
    softmaxes = [kernel for kernel in kernels if isinstance(kernel, SoftmaxKernel)]
    read = {buffer.tensor for kernel in kernels for buffer in kernel.inputs}
    return Model(
        title=graph.name,
        prefix=prefix,
        digest=graph_digest(graph),
        inputs=inputs,
        outputs=tuple(outputs),
        arena=arena,
        arena_size=plan.size,
        arena_sizeof=max(1, -(-plan.size // alignment) * alignment),
        steps=len(lowered.steps),
        helpers=_helpers(kernels),
        unread=tuple(p.ident for one, p in zip(graph.inputs, inputs, strict=True) if one.name not in read),
        uses_string=any(kernel.uses_string for kernel in kernels),
        softmax=bool(softmaxes),
        exponential=any(kernel.table is None for kernel in softmaxes),
    )


def _port(name: str, key: str, idents: Identifiers, kind: TensorType, label: Label, ctype: CType) -> Port:
    return Port(
        title=name,
        ident=idents.of(key),
        ctype=ctype.name,
        elements=kind.size,
        shape="x".join(str(axis) for axis in kind.shape),
        lo=kind.lo,
        hi=kind.hi,
        meaning=_meaning(label),
    )


def _meaning(label: Label) -> str:
    match label:
        case Dyadic(int() as frac):
            return f"one unit is 2^{-frac}"
        case Dyadic():
            return f"one unit is {label}"
        case Affine(scale, zero_point):
            return f"real value = {scale!r} * (unit - {zero_point})"


def _helpers(kernels: tuple[Kernel, ...]) -> tuple[Helper, ...]:
    needed = {one for kernel in kernels if kernel.epilogue for one in kernel.epilogue.helpers}
    ordered = sorted(needed, key=lambda one: (one[0].value, one[1].size))
    return tuple(Helper(helper_name(rounding, ctype), ctype.name, *_WORDS[rounding]) for rounding, ctype in ordered)
