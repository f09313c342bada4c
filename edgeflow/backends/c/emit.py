"""Renders the C source and header of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from edgeflow.backends.c.calls import Calls, calls_of
from edgeflow.backends.c.coded import Layers
from edgeflow.backends.c.coded_choice import plan_layers
from edgeflow.backends.c.dsp.layers import common_shift
from edgeflow.backends.c.dsp.packed_choice import packings
from edgeflow.backends.c.dsp.packed_depthwise import depthwise_bits
from edgeflow.backends.c.epilogue import helper_name
from edgeflow.backends.c.functions import Function, functions_of
from edgeflow.backends.c.kernel import Context, Kernel, Shared
from edgeflow.backends.c.kernels import make_kernel
from edgeflow.backends.c.lower import Buffer, Lowered, lower, output_key
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.c.plan import Plan
from edgeflow.backends.c.ports import Port, port_of
from edgeflow.backends.c.rows import InterpolatedSoftmaxKernel, SoftmaxKernel
from edgeflow.board import Core
from edgeflow.ir.graph import Graph
from edgeflow.ops.requant import Rounding
from edgeflow.passes.unsigned import signed, unsigned
from edgeflow.render import Identifiers, identifier, render
from edgeflow.semantics.serialize import graph_digest
from edgeflow.semantics.verify import verify


@dataclass(frozen=True)
class Helper:
    """A rounding shift as a C function."""

    name: str
    ctype: str
    words: str
    expression: str


@dataclass(frozen=True)
class Model:
    """Everything that the templates say about the model as a whole."""

    title: str
    prefix: str
    digest: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    arena_size: int
    alignment: int
    steps: int
    helpers: tuple[Helper, ...]
    uses_string: bool
    reciprocal: bool
    exponential: bool
    interpolated: bool

    @property
    def ports(self) -> tuple[Port, ...]:
        """Inputs, then outputs."""
        return (*self.inputs, *self.outputs)

    @property
    def rounds(self) -> str:
        """The floating type in which inputs are rounded to integers; "" where no input is."""
        kinds = {one.scaling.kind for one in self.inputs if one.scaling}
        return max(kinds, key=("float", "double").index, default="")

    @property
    def arena_sizeof(self) -> int:
        """The arena's size as C has it."""
        return max(1, -(-self.arena_size // self.alignment)) * self.alignment

    @property
    def softmax(self) -> bool:
        """Whether any form of softmax is there."""
        return self.reciprocal or self.interpolated


@dataclass(frozen=True)
class Emitted:
    """The generated model: its description, kernels and plan, and the text of its header and its source."""

    model: Model
    kernels: tuple[Kernel, ...]
    functions: Mapping[str, Function]
    lowered: Lowered
    plan: Plan
    calls: Calls

    @cached_property
    def header(self) -> str:
        """What a program includes."""
        return render("c/model.h.j2", model=self.model)

    @cached_property
    def source(self) -> str:
        """All of the model in one file."""
        return self.text("c/model.c.j2", shared=shared_of(self.kernels))

    @property
    def table_bytes(self) -> int:
        """Bytes of flash that tables take: those of layers, and the order of calls."""
        return sum(one.table_bytes for one in self.kernels) + self.schedule_bytes

    @property
    def schedule_bytes(self) -> int:
        """Bytes of the tables with the order of calls."""
        return sum(one.table.size for one in self.calls.stretches)

    def text(self, template: str, **more: object) -> str:
        """Renders a template of the model's source."""
        return render(
            template,
            model=self.model,
            kernels=self.kernels,
            functions=self.functions,
            calls=self.calls,
            made=self,
            **more,
        )

    def output_buffer(self, name: str) -> Buffer:
        """The buffer that the output of that name is written to."""
        return self.lowered.buffer(output_key(name))


_WORDS = {
    Rounding.HALF_UP: ("rounding half up", "v + half"),
    Rounding.HALF_EVEN: ("rounding half to even", "v + (half - 1) + ((v >> shift) & 1)"),
    Rounding.HALF_AWAY: ("rounding half away from zero", "v + half - (v < 0)"),
}


_KEPT = 4
_recent: dict[tuple[str, str, Core, Optimize], Emitted] = {}
"""The last models emitted: estimating, building and running ask for the same one, and its search takes time."""


def emit_model(
    graph: Graph,
    prefix: str | None = None,
    core: Core = Core.CORTEX_M0PLUS,
    optimize: Optimize = Optimize.BALANCED,
) -> Emitted:
    """Lowers, plans and renders a graph for a core. `prefix` starts public C names, by default the graph's name."""
    key = (graph_digest(graph), public_prefix(prefix or graph.name), core, optimize)
    if key not in _recent:
        found = _emit(graph, *key)
        while len(_recent) >= _KEPT:
            del _recent[next(iter(_recent))]
        _recent[key] = found
    return _recent[key]


def _emit(original: Graph, digest: str, prefix: str, core: Core, optimize: Optimize) -> Emitted:
    graph = signed(original) if core.has_mve else unsigned(original)
    bounds = verify(graph)
    shapes = {tensor.name: tensor.type.shape for tensor in graph.tensors()}
    lowered = lower(graph)
    shift, packed = common_shift(lowered.steps), packings(lowered.steps, optimize)
    bits = depthwise_bits(lowered.steps, optimize)
    context = Context(lowered, bounds, shapes, core, shift, optimize, packed, bits)
    layers, plan = plan_layers(Layers(lowered, _kernels(context), shapes), context, [one.name for one in graph.inputs])
    lowered, shapes = layers.lowered, layers.shapes
    kernels = tuple(_widened(kernel, plan) for kernel in layers.kernels)
    model = _model(graph, digest, prefix, lowered, plan, kernels)
    functions = functions_of(kernels)
    calls = calls_of(plan, lowered, kernels, functions, shapes)
    return Emitted(model, kernels, functions, lowered, plan, calls)


def _kernels(context: Context) -> tuple[Kernel, ...]:
    """The kernel of every step. Its number keeps the function of a layer "a_weight" apart from the table of an "a"."""
    functions = Identifiers()
    return tuple(
        make_kernel(step, f"l{number}_{functions.of(step.result)}", context)
        for number, step in enumerate(context.lowered.steps, start=1)
    )


def shared_of(kernels: Sequence[Kernel]) -> tuple[Shared, ...]:
    """What layers share, each once."""
    return tuple({one.name: one for kernel in kernels for one in kernel.shared}.values())


def _widened(kernel: Kernel, plan: Plan) -> Kernel:
    """A kernel that accumulates takes as many rows at a time as the one before it makes."""
    form = kernel.by_rows
    if form is None or not form.accumulates:
        return kernel
    steps = plan.schedule.flow.steps
    most = max(task.count for task in plan.tasks() if steps[task.step].name == kernel.name)
    return replace(kernel, by_rows=replace(form, group=most))


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


def _model(graph: Graph, digest: str, prefix: str, lowered: Lowered, plan: Plan, kernels: tuple[Kernel, ...]) -> Model:
    sources, results = Identifiers(), Identifiers()
    inputs = tuple(
        port_of(
            one.name, f"in_{sources.of(one.name)}", one.type, one.label, lowered.buffers[one.name], plan.row(one.name)
        )
        for one in graph.inputs
    )
    outputs: list[Port] = []
    for one in graph.outputs:
        tensor = graph.tensor(one.tensor)
        buffer = lowered.buffer(output_key(one.name))
        ident, offset = f"out_{results.of(one.name)}", plan.row(buffer.tensor)
        outputs.append(port_of(one.name, ident, tensor.type, tensor.label, buffer, offset))
    widest = max(one.ctype.size for one in lowered.buffers.values())
    softmaxes = [kernel for kernel in kernels if isinstance(kernel, SoftmaxKernel)]
    return Model(
        title=graph.name,
        prefix=prefix,
        digest=digest,
        inputs=inputs,
        outputs=tuple(outputs),
        arena_size=plan.size,
        alignment=max(4, widest),
        steps=len(lowered.steps),
        helpers=_helpers(kernels),
        uses_string=any(kernel.uses_string for kernel in kernels),
        reciprocal=bool(softmaxes),
        exponential=any(kernel.table is None for kernel in softmaxes),
        interpolated=any(isinstance(kernel, InterpolatedSoftmaxKernel) for kernel in kernels),
    )


def _helpers(kernels: tuple[Kernel, ...]) -> tuple[Helper, ...]:
    needed = {one for kernel in kernels for epilogue in kernel.epilogues for one in epilogue.helpers}
    ordered = sorted(needed, key=lambda one: (one[0].value, one[1].size))
    return tuple(Helper(helper_name(rounding, ctype), ctype.name, *_WORDS[rounding]) for rounding, ctype in ordered)
