"""The sources around a model: the file as a C array, a program that runs it, and its CMake project."""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.backends.tflm.estimate import RAM_BAND, Kernels, arena_bytes
from edgeflow.backends.tflm.flatbuffer import ALIGNMENT, write_flatbuffer
from edgeflow.backends.tflm.lower import Lowered
from edgeflow.backends.tflm.plan import align
from edgeflow.board import McuBoard
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType
from edgeflow.render import Identifiers, identifier, render
from edgeflow.semantics.serialize import graph_digest

_COLUMNS = 16


@dataclass(frozen=True)
class Port:
    """An input or output as the program's comments and constants say it; `lo` and `hi` are bytes."""

    title: str
    ident: str
    index: int
    elements: int
    shape: str
    scale: str
    zero_point: int
    lo: int
    hi: int

    @property
    def above_zero(self) -> str:
        """The byte as its distance from the zero point, in C."""
        point = self.zero_point
        return "byte" if point == 0 else f"(byte {'-' if point > 0 else '+'} {abs(point)})"


def firmware_files(graph: Graph, lowered: Lowered, board: McuBoard, prefix: str, kernels: Kernels) -> dict[str, bytes]:
    """Relative path -> content of everything but the graph and the manifest."""
    digest = graph_digest(graph)
    content = write_flatbuffer(lowered.model, digest)
    name = identifier(prefix or graph.name)
    arena = arena_bytes(lowered.model, kernels)
    idents = Identifiers()
    shared = {
        "title": graph.name,
        "prefix": name,
        "digest": digest,
        "board": board,
        "inputs": _inputs(graph, lowered, idents),
        "outputs": _outputs(graph, lowered, idents),
        "methods": [one.method for one in lowered.model.kernels],
        "layers": [(one.layer, one.kernel.value) for one in lowered.model.operators],
        "kernels": kernels.value,
        "size": len(content),
        "alignment": ALIGNMENT,
        "arena": arena,
        "arena_size": align(round(arena * (1 + RAM_BAND))),
        "band": round(100 * RAM_BAND),
    }
    rows = [content[start : start + _COLUMNS] for start in range(0, len(content), _COLUMNS)]
    array = [", ".join(f"0x{byte:02x}" for byte in row) for row in rows]
    texts = {
        "model_data.h": render("tflm/model_data.h.j2", **shared),
        "model_data.c": render("tflm/model_data.c.j2", **shared, rows=array),
        "main.cc": render("tflm/main.cc.j2", **shared),
        "CMakeLists.txt": render("tflm/CMakeLists.txt.j2", **shared),
        "README.md": render("tflm/README.md.j2", **shared),
    }
    files = {name: text.encode("ascii", "backslashreplace") for name, text in texts.items()}
    return {"model.tflite": content, **files}


def _inputs(graph: Graph, lowered: Lowered, idents: Identifiers) -> list[Port]:
    places = lowered.model.inputs
    return [
        _port(lowered, index, one.name, one.name, place, one.type, idents)
        for index, (one, place) in enumerate(zip(graph.inputs, places, strict=True))
    ]


def _outputs(graph: Graph, lowered: Lowered, idents: Identifiers) -> list[Port]:
    ports: list[Port] = []
    for index, (one, place) in enumerate(zip(graph.outputs, lowered.model.outputs, strict=True)):
        kind = graph.tensor(one.tensor).type
        ports.append(_port(lowered, index, one.name, one.tensor, place, kind, idents))
    return ports


def _port(
    lowered: Lowered, index: int, title: str, tensor: str, place: int, kind: TensorType, idents: Identifiers
) -> Port:
    found, storage = lowered.model.tensors[place], lowered.stored[tensor]
    assert found.quantization is not None
    return Port(
        title=title,
        ident=idents.of(f"{index} {title}"),
        index=index,
        elements=kind.size,
        shape="x".join(str(axis) for axis in found.shape),
        scale=repr(found.quantization.scales[0]),
        zero_point=found.quantization.zero_point,
        lo=kind.lo + storage.shift,
        hi=kind.hi + storage.shift,
    )
