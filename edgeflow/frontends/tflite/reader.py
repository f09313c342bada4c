"""The bytes of a `.tflite` file as a checked `TfliteFile`: each number, length and reference before it is used."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.tflite.flatbuffer import (
    BOOL,
    FIX,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT32,
    UINT64,
    Flatbuffer,
    Table,
)
from edgeflow.frontends.tflite.model import Operator, Quantization, Tensor, TfliteFile
from edgeflow.frontends.tflite.order import check_order
from edgeflow.frontends.tflite.schema import (
    BITS,
    CUSTOM,
    FORMS,
    IDENTIFIER,
    INTEGERS,
    OPERATORS,
    TYPES,
    VERSION,
    Buffer,
    Code,
    Entry,
    Field,
    Form,
    Kind,
    Model,
    OperatorSlot,
    Scales,
    Signature,
    Subgraph,
    TensorSlot,
)
from edgeflow.ir.types import Shape
from edgeflow.semantics.verify import LARGEST_TENSOR

LARGEST_FILE = 64 << 20
MOST_TENSORS, MOST_OPERATORS, MOST_CODES, MOST_BUFFERS, MOST_ENTRIES = 20_000, 2_000, 1_024, 40_000, 1_024
MOST_AXES = 8
_OPEN = -1
"""An axis without a fixed length in a shape's signature; among an operator's inputs one that is left out."""
_NAMELESS = re.compile(r"(main|subgraph_?\d*)?", re.IGNORECASE)
_ZERO_POINTS = (-(1 << 31), (1 << 31) - 1)

Option = int | float | bool | str | tuple[int, ...]


def read_tflite(data: bytes, where: str) -> TfliteFile:
    """The model in the bytes of a `.tflite` file; `where` is the file's path, for errors and for a nameless model.

    Raises EdgeflowError for a damaged file, Unsupported for what TFLite-Micro's own interpreter would not run.
    """
    if len(data) > LARGEST_FILE:
        raise EdgeflowError("larger than 64 MiB", where=where, fix="give a model that a microcontroller can hold")
    file = Flatbuffer(data, where)
    if data[4:8] != IDENTIFIER:
        raise file.damaged("it does not begin like a .tflite file")
    root = file.root("the model")
    version = root.number(Model.VERSION, UINT32)
    if version != VERSION:
        raise Unsupported(f"a TFLite file of version {version}; edgeflow reads {VERSION}", where=where, fix=FIX)
    buffers = _Buffers(root)
    graph = _only_subgraph(root)
    tensors = _tensors(graph, buffers)
    operators = _operators(root, graph, len(tensors))
    inputs, outputs = (_references(graph, slot, len(tensors)) for slot in (Subgraph.INPUTS, Subgraph.OUTPUTS))
    found = TfliteFile(
        name=_name(graph, where),
        tensors=tensors,
        operators=operators,
        inputs=inputs,
        outputs=outputs,
        names=_signature_names(root, len(tensors)),
        metadata=_metadata(root, buffers),
    )
    check_order(found, where)
    return found


class _Buffers:
    """The model's buffers. The bytes of each are copied once, however many tensors refer to them."""

    def __init__(self, root: Table) -> None:
        self._file = root.file
        self._tables = tuple(root.tables(Model.BUFFERS, "buffer", MOST_BUFFERS))
        self._contents: dict[tuple[int, int], bytes] = {}
        self._left = len(root.file.data)

    def content(self, index: int, place: str) -> bytes:
        """A buffer's bytes; none for what is not stored. Raises EdgeflowError, naming `place` as the reader."""
        if index >= len(self._tables):
            raise self._file.damaged(f"{place} refers to buffer {index} of {len(self._tables)}")
        table = self._tables[index]
        start, size = table.span(Buffer.DATA, 1)
        if not size:
            self._refuse_external(table, place)
            return b""
        if (start, size) not in self._contents:
            self._left -= size
            if self._left < 0:
                raise self._file.damaged("its buffers lie over one another")
            self._contents[start, size] = self._file.data[start : start + size]
        return self._contents[start, size]

    def _refuse_external(self, table: Table, place: str) -> None:
        if max(table.number(slot, UINT64) for slot in (Buffer.OFFSET, Buffer.SIZE)) > 1:
            raise Unsupported(
                f"the data of {place} ({table.place}) lies behind the flatbuffer, where TFLite-Micro does not look",
                where=self._file.where,
                fix="convert the model without buffer offsets",
            )


def _only_subgraph(root: Table) -> Table:
    graphs = list(root.tables(Model.SUBGRAPHS, "subgraph", MOST_ENTRIES))
    if not graphs:
        raise root.file.damaged("it holds no subgraph")
    if len(graphs) > 1:
        raise Unsupported(
            f"the file holds {len(graphs)} subgraphs; edgeflow reads models of one",
            where=root.file.where,
            fix="convert one signature, without if and while",
        )
    return graphs[0]


def _name(graph: Table, where: str) -> str:
    """The subgraph's name; the file's for one that says nothing, as converters write it."""
    name = graph.text(Subgraph.NAME)
    return (Path(where).stem or "model") if _NAMELESS.fullmatch(name) else name


def _references(table: Table, slot: int, count: int, least: int = 0) -> tuple[int, ...]:
    """A vector of tensors' numbers, each at least `least` and below `count`."""
    found = table.numbers(slot, INT32)
    for index in found:
        if not least <= index < count:
            raise table.damaged(f"refers to tensor {index} of {count}")
    return found


def _tensors(graph: Table, buffers: _Buffers) -> tuple[Tensor, ...]:
    tables = graph.tables(Subgraph.TENSORS, "tensor", MOST_TENSORS)
    return tuple(_tensor(index, table, buffers) for index, table in enumerate(tables))


def _tensor(index: int, table: Table, buffers: _Buffers) -> Tensor:
    name = table.text(TensorSlot.NAME)
    kind = table.name_of(TensorSlot.TYPE, TYPES, "type")
    shape, dynamic = _shape(table)
    sparse = table.table(TensorSlot.SPARSITY, f"{table.place}'s sparsity") is not None
    if table.number(TensorSlot.EXTERNAL, UINT32):
        raise Unsupported(
            f"the data of {table.place} ('{name}') lies in another file",
            where=table.file.where,
            fix="convert the model into one file",
        )
    return Tensor(
        index=index,
        name=name,
        shape=shape,
        kind=kind,
        quantization=_quantization(table, shape, kind),
        data=_data(table, shape, kind, sparse, buffers),
        dynamic=dynamic,
        variable=bool(table.number(TensorSlot.VARIABLE, BOOL)),
        sparse=sparse,
    )


def _shape(table: Table) -> tuple[Shape, tuple[int, ...]]:
    """The shape, and the axes without a fixed length."""
    shape, signature = table.numbers(TensorSlot.SHAPE, INT32), table.numbers(TensorSlot.SIGNATURE, INT32)
    if len(shape) > MOST_AXES:
        raise table.damaged(f"has {len(shape):,} axes; edgeflow reads up to {MOST_AXES}")
    if any(axis < 0 for axis in shape):
        raise table.damaged(f"has the shape {shape}")
    if signature and len(signature) != len(shape):
        raise table.damaged(f"has the shape {shape} and the signature {signature[: MOST_AXES + 1]}")
    if math.prod(shape) > LARGEST_TENSOR:
        raise table.damaged(f"has the shape {shape}, more than 2^24 elements")
    return shape, tuple(axis for axis, length in enumerate(signature) if length == _OPEN)


def _data(table: Table, shape: Shape, kind: str, sparse: bool, buffers: _Buffers) -> bytes | None:
    """A constant's bytes, as many as its shape and type say. None for what is given or computed."""
    content = buffers.content(table.number(TensorSlot.BUFFER, UINT32), table.place)
    count = math.prod(shape)
    if not content:
        return b"" if count == 0 else None
    if kind in BITS and not sparse:
        size = -(-count * BITS[kind] // 8)
        if len(content) != size:
            raise table.damaged(f"has {len(content):,} bytes; {kind} of shape {shape} takes {size:,}")
    return content


def _quantization(table: Table, shape: Shape, kind: str) -> Quantization | None:
    """Scales and zero points: one, or one for each element of an axis."""
    stored = table.table(TensorSlot.QUANTIZATION, f"{table.place}'s quantization")
    if stored is None:
        return None
    if stored.number(Scales.DETAILS_TYPE, UINT8):
        raise Unsupported(
            f"{table.place} has a quantization of another form than scale and zero point",
            where=table.file.where,
            fix="convert the model with one scale a tensor or a channel",
        )
    scales, zeros = stored.reals(Scales.SCALE), stored.numbers(Scales.ZERO_POINT, INT64)
    if not scales:
        return None
    for scale in scales:
        if not 0 <= scale < math.inf:
            raise table.damaged(f"has the scale {scale}")
    if zeros and len(zeros) != len(scales):
        raise table.damaged(f"has {len(scales):,} scales and {len(zeros):,} zero points")
    lo, hi = INTEGERS.get(kind, _ZERO_POINTS)
    for zero in zeros:
        if not lo <= zero <= hi:
            raise table.damaged(f"has the zero point {zero}, which is no {kind}")
    axis = stored.number(Scales.AXIS, INT32)
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        raise table.damaged(f"has {len(scales):,} scales for axis {axis} of the shape {shape}")
    return Quantization(scales, zeros, axis if len(scales) > 1 else 0)


def _operators(root: Table, graph: Table, tensors: int) -> tuple[Operator, ...]:
    codes = tuple(root.tables(Model.OPERATOR_CODES, "operator code", MOST_CODES))
    tables = graph.tables(Subgraph.OPERATORS, "operator", MOST_OPERATORS)
    return tuple(_operator(index, table, codes, tensors) for index, table in enumerate(tables))


def _operator(index: int, table: Table, codes: tuple[Table, ...], tensors: int) -> Operator:
    number = table.number(OperatorSlot.CODE, UINT32)
    if number >= len(codes):
        raise table.damaged(f"has operator code {number} of {len(codes)}")
    code, custom = _code(codes[number])
    form = None if custom else FORMS.get(code)
    inputs = _references(table, OperatorSlot.INPUTS, tensors, least=_OPEN)
    outputs = _references(table, OperatorSlot.OUTPUTS, tensors)
    if not outputs:
        raise table.damaged(f"({code}) has no output")
    if form is not None:
        _check_form(table, code, form, inputs, outputs)
    return Operator(
        index=index,
        code=code,
        version=codes[number].number(Code.VERSION, INT32, 1),
        inputs=inputs,
        outputs=outputs,
        options={} if form is None else _options(table, code, form),
        custom=custom,
    )


def _code(table: Table) -> tuple[str, bool]:
    """An operator code's name, and whether it is a custom operator. Numbers up to 127 stand in either field."""
    number = max(table.number(Code.NUMBER, INT32), table.number(Code.SMALL_NUMBER, INT8))
    if number == CUSTOM:
        return table.text(Code.CUSTOM_NAME) or "without a name", True
    return (OPERATORS[number] if 0 <= number < len(OPERATORS) else f"BUILTIN_{number}"), False


def _check_form(table: Table, code: str, form: Form, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    for kind, given, (least, most) in (("input", inputs, form.inputs), ("output", outputs, form.outputs)):
        if not least <= len(given) <= most:
            takes = f"{least}" if least == most else f"{least} to {most}"
            raise table.damaged(f"({code}) has {len(given)} {kind}s; it takes {takes}")
    if _OPEN in inputs[: form.inputs[0]]:
        raise table.damaged(f"({code}) lacks its input {inputs.index(_OPEN)}")


def _options(table: Table, code: str, form: Form) -> Mapping[str, Option]:
    if not form.fields:
        return {}
    kind = table.number(OperatorSlot.OPTIONS_TYPE, UINT8)
    if kind not in (0, form.options):
        raise table.damaged(f"({code}) has the options of another operator, type {kind}")
    stored = table.table(OperatorSlot.OPTIONS, f"{table.place} (in its options)") if kind else None
    if stored is not None:
        return {field.name: _READ[field.kind](stored, field) for field in form.fields}
    if any(field.default < field.least for field in form.fields if field.kind is Kind.INT):
        raise table.damaged(f"({code}) has no options")
    return {field.name: field.left_out for field in form.fields}


def _integer(table: Table, field: Field) -> Option:
    value = table.number(field.slot, INT32, int(field.default))
    if not field.least <= value <= field.most:
        raise table.damaged(f"has {field.name} {value}")
    return value


_READ: Mapping[Kind, Callable[[Table, Field], Option]] = {
    Kind.INT: _integer,
    Kind.REAL: lambda table, field: table.real(field.slot, field.default),
    Kind.FLAG: lambda table, field: bool(table.number(field.slot, BOOL, int(field.default))),
    Kind.ENUM: lambda table, field: table.name_of(field.slot, field.names, field.name, int(field.default)),
    Kind.LIST: lambda table, field: table.numbers(field.slot, INT32),
}


def _signature_names(root: Table, tensors: int) -> Mapping[int, str]:
    """The names that the first signature gives to inputs and outputs."""
    signature = next(root.tables(Model.SIGNATURES, "signature", MOST_ENTRIES), None)
    if signature is None or signature.number(Signature.SUBGRAPH, UINT32):
        return {}
    names: dict[int, str] = {}
    ends = ((Signature.INPUTS, "signature input"), (Signature.OUTPUTS, "signature output"))
    for entry in chain.from_iterable(signature.tables(slot, kind, MOST_ENTRIES) for slot, kind in ends):
        index = entry.number(Entry.NUMBER, UINT32)
        if index >= tensors:
            raise entry.damaged(f"refers to tensor {index} of {tensors}")
        names.setdefault(index, entry.text(Entry.NAME))
    return {index: name for index, name in names.items() if name}


def _metadata(root: Table, buffers: _Buffers) -> Mapping[str, bytes]:
    entries: Iterable[Table] = root.tables(Model.METADATA, "metadata", MOST_ENTRIES)
    return {
        entry.text(Entry.NAME): buffers.content(entry.number(Entry.NUMBER, UINT32), entry.place) for entry in entries
    }
