"""Activations kept packed in the arena: layers that unpack the rows that they read and pack those that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgeflow.backends.c.coding import Coder, Coding, coder
from edgeflow.backends.c.ctypes import UINT32
from edgeflow.backends.c.epilogue import Epilogue
from edgeflow.backends.c.flow import Reuse, Window
from edgeflow.backends.c.functions import Function, with_tables
from edgeflow.backends.c.kernel import Context, Kernel, RowForm, Shared
from edgeflow.backends.c.lower import Buffer, Lowered, Step
from edgeflow.ir.types import Shape
from edgeflow.render import render

_CALL, _ROW = 25.0, 10.0
"""Instructions of a call between packed values, and of the loop around each row of it."""


@dataclass(frozen=True)
class Coded:
    """Rows between bytes and codes in a layer: the function that `name` names changes one row of `words` full words.

    The bytes lie in working memory from `at` on, `stride` bytes a row.
    """

    coder: Coder
    name: str
    at: int
    stride: int
    words: int
    row: int


@dataclass(frozen=True, kw_only=True)
class CodedKernel(Kernel):
    """The layer `inner`, of bytes, called `calls`, between packed operands (None: bytes as they are) and result.

    It works through `extent` rows in all.
    """

    inner: Kernel
    calls: str
    passed: tuple[str, ...]
    operands: tuple[Coded | None, ...]
    result: Coded | None
    extent: int

    @property
    def epilogues(self) -> tuple[Epilogue, ...]:
        """What the layer of bytes does to values."""
        return self.inner.epilogues

    @property
    def between(self) -> tuple[Coded, ...]:
        """What packs and unpacks."""
        return tuple(one for one in (*self.operands, self.result) if one)

    @property
    def work(self) -> float:
        """About the instructions that packing and unpacking take."""
        form = self.inner.by_rows
        assert form is not None
        calls = -(-self.extent // form.group)
        reads = [0.0 if one is None else one.coder.work(one.words) for one in self.operands]
        if form.accumulates:
            return self.extent * (_CALL + sum(reads))
        unpacked = sum(form.reach(index) * (_ROW + each) if each else 0.0 for index, each in enumerate(reads))
        packed = self.extent * (_ROW + self.result.coder.work(self.result.words)) if self.result else 0.0
        return calls * (_CALL + unpacked) + packed

    @property
    def pointers(self) -> int:
        """Row pointers in its frame."""
        form = self.inner.by_rows
        assert form is not None
        return sum(form.reach(index) for index, one in enumerate(self.operands) if one) if not form.accumulates else 1


@dataclass(frozen=True, kw_only=True)
class CodeKernel(Kernel):
    """A whole tensor between bytes and codes: `rows` times the same row."""

    coder: Coder
    function: str
    rows: int
    row: int
    coding: Coding

    @property
    def words(self) -> int:
        """Full words of a row."""
        return self.coding.full

    @property
    def work(self) -> float:
        """About the instructions that it takes."""
        return self.rows * self.coder.work(self.words)


@dataclass(frozen=True)
class Layers:
    """What is planned and written: steps with their kernels, and the shape of every tensor that is stored."""

    lowered: Lowered
    kernels: tuple[Kernel, ...]
    shapes: Mapping[str, Shape]


def rows_of(shape: Shape) -> int:
    """Rows that a tensor is stored in."""
    return shape[0] if len(shape) > 1 else 1


class Packer:
    """Keeps tensors of some layers packed. A name for shared C text is the same for one `context`."""

    def __init__(self, layers: Layers, context: Context) -> None:
        self.layers, self.context = layers, context
        self._called: dict[str, tuple[Function, Shared]] = {}

    def pack(self, chosen: Mapping[str, Coding]) -> Layers:
        """The same layers with some tensors packed.

        A layer that works by rows packs and unpacks what it makes and reads itself, in working memory. A model's input
        and what a layer makes as a whole is packed by a step of its own, and unpacked by another before a layer that
        reads it as a whole; both may work in place.
        """
        return _Packed(self, chosen).made() if chosen else self.layers

    def shared(self, between: Coder) -> Shared:
        """The function that packs or unpacks."""
        name = self.context.named(between.stem, between)
        return Shared(name, between.text(name), between.size)

    def called(self, kernel: Kernel) -> tuple[Function, Shared]:
        """A layer of bytes as a function that others call, which layers share that are alike but for their tables."""
        if kernel.name not in self._called:
            function = with_tables(kernel)
            name = self.context.named("bytes", render("c/bytes.c.j2", name="", function=function))
            self._called[kernel.name] = function, Shared(name, render("c/bytes.c.j2", name=name, function=function), 0)
        return self._called[kernel.name]


class _Packed:
    def __init__(self, packer: Packer, chosen: Mapping[str, Coding]) -> None:
        self.packer, self.layers, self.chosen = packer, packer.layers, chosen
        self.shapes = dict(self.layers.shapes)
        self.buffers = dict(self.layers.lowered.buffers)
        self.bytes = {name: self.buffers[name] for name in chosen}
        self.packed = {name: self._packed(name, coding) for name, coding in chosen.items()}
        self.steps: list[Step] = []
        self.kernels: list[Kernel] = []

    def made(self) -> Layers:
        """All layers, with the steps between them."""
        for number, (name, one) in enumerate(self.bytes.items()):
            if one.place == "input":
                self._add(name, one, f"l0_{number}_packed", name, packs=True)
        for step, kernel in zip(self.layers.lowered.steps, self.layers.kernels, strict=True):
            self._layer(step, kernel)
        lowered = replace(self.layers.lowered, steps=tuple(self.steps), buffers=self.buffers)
        return Layers(lowered, tuple(self.kernels), self.shapes)

    def _packed(self, name: str, coding: Coding) -> Buffer:
        """The buffer of words, under the tensor's own name unless that is an input of the model."""
        own = f"\0{name} packed" if self.buffers[name].place == "input" else name
        self.shapes[own] = self.shapes[name]
        self.buffers[own] = Buffer(own, UINT32, rows_of(self.shapes[name]) * coding.words, "arena", coding)
        return self.buffers[own]

    def _new_bytes(self, name: str) -> Buffer:
        own = f"\0{name} as bytes"
        while own in self.buffers:
            own += " again"
        self.shapes[own] = self.shapes[name]
        self.buffers[own] = replace(self.bytes[name], tensor=own, place="arena")
        return self.buffers[own]

    def _layer(self, step: Step, kernel: Kernel) -> None:
        inputs = list(kernel.inputs)
        for index, one in enumerate(kernel.inputs):
            if one.tensor not in self.chosen:
                continue
            inputs[index] = self.packed[one.tensor]
            if not self._by_rows(step, kernel, index):
                inputs[index] = self._new_bytes(one.tensor)
                self._add(one.tensor, inputs[index], f"{kernel.name}_bytes{index}", step.layer, packs=False)
        form, y, made = kernel.by_rows, kernel.y, kernel.y.tensor
        if made in self.chosen:
            whole = form is None or form.accumulates
            y = self._new_bytes(made) if whole else self.packed[made]
        self.steps.append(step)
        self.kernels.append(self._between(kernel, tuple(inputs), y))
        if made in self.chosen and y is not self.packed[made]:
            self._add(made, y, f"{kernel.name}_packed", step.layer, packs=True)

    def _by_rows(self, step: Step, kernel: Kernel, index: int) -> bool:
        """Whether a layer reads rows as they are stored."""
        stored = rows_of(self.layers.shapes[kernel.inputs[index].tensor])
        return kernel.by_rows is not None and rows_of(self.layers.shapes[step.reads[index]]) == stored

    def _add(self, name: str, outside: Buffer, own: str, layer: str, *, packs: bool) -> None:
        """A step that packs a tensor from the bytes `outside`, or unpacks it to them."""
        coding, packed = self.chosen[name], self.packed[name]
        rows = rows_of(self.shapes[name])
        between = coder(coding, packs=packs, aligned=False)
        shared = self.packer.shared(between)
        source, result = (outside, packed) if packs else (packed, outside)
        kernel = CodeKernel(
            name=own,
            layer=layer,
            what=f"{'bytes to' if packs else 'back to bytes from'} {coding.bits} bits",
            template="code",
            inputs=(source,),
            y=result,
            reuse=Reuse.SAME_ROWS if packs or coding.in_place else Reuse.NEVER,
            shared=(shared,),
            coder=between,
            function=shared.name,
            coding=coding if coding.rest else replace(coding, row=coding.row * rows),
            rows=rows if coding.rest else 1,
            row=coding.row,
        )
        self.steps.append(Step(result.tensor, None, copies=source.tensor, of=layer))
        self.kernels.append(kernel)

    def _between(self, inner: Kernel, inputs: tuple[Buffer, ...], y: Buffer) -> Kernel:
        """A layer with its packed operands and result, if any is packed."""
        if not any(one.coding for one in (*inputs, y)):
            return replace(inner, inputs=inputs, y=y)
        form = inner.by_rows
        assert form is not None
        at = 4 * inner.scratch
        operands: list[Coded | None] = []
        for index, one in enumerate(inputs):
            coded = one.coding and self._coded(one.coding, at, packs=False, rows=1)
            operands.append(coded)
            at += coded.stride * (1 if form.accumulates else form.reach(index)) if coded else 0
        result = y.coding and self._coded(y.coding, at, packs=True, rows=form.group)
        at += result.stride * form.group if result else 0
        shared = (self.packer.shared(one.coder) for one in (*operands, result) if one)
        function, own = self.packer.called(inner)
        return CodedKernel(
            name=inner.name,
            layer=inner.layer,
            what=f"{inner.what}, {_told(inputs, y)}",
            template="coded",
            inputs=inputs,
            y=y,
            acc=inner.acc,
            epilogue=inner.epilogue,
            own_tables=inner.own_tables,
            records=inner.records,
            uses_string=inner.uses_string,
            by_rows=replace(form, whole=False if result else form.whole, reuse=_reuse(form, operands, result)),
            scratch=-(-at // 4),
            shared=(*inner.shared, *dict.fromkeys(shared), own),
            inner=inner,
            calls=own.name,
            passed=function.tables(inner),
            operands=tuple(operands),
            result=result,
            extent=rows_of(self.layers.shapes[inner.x.tensor if form.accumulates else inner.y.tensor]),
        )

    def _coded(self, coding: Coding, at: int, *, packs: bool, rows: int) -> Coded:
        """Bytes in working memory from about `at` on: rows that one call makes lie one behind the other."""
        aligned = rows == 1 or coding.row % 4 == 0
        between = coder(coding, packs=packs, aligned=aligned)
        stride = -(-coding.row // 4) * 4 if aligned else coding.row
        return Coded(between, self.packer.shared(between).name, at, stride, coding.full, coding.words)


def _told(inputs: Sequence[Buffer], y: Buffer) -> str:
    """What is packed, in words."""
    reads = sorted({one.coding.bits for one in inputs if one.coding})
    words = [f"from {' and '.join(map(str, reads))} bits"] if reads else []
    return " ".join([*words, *([f"to {y.coding.bits} bits"] if y.coding else [])])


def _reuse(form: RowForm, operands: Sequence[Coded | None], result: Coded | None) -> Reuse:
    """A row that is packed last, or made of nothing but unpacked rows, may lie over the row that it is made of."""
    alone = all(one == Window(1) for one in form.windows) and not form.accumulates
    return Reuse.SAME_ROWS if alone and (result or all(operands)) else form.reuse
