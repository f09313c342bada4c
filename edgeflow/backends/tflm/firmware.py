"""The sources around a model: the file as a C array, a program that runs it, and its CMake project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeflow.backends.tflm.arena import arena
from edgeflow.backends.tflm.describe import describe
from edgeflow.backends.tflm.estimate import RAM_BAND
from edgeflow.backends.tflm.flatbuffer import ALIGNMENT, write_flatbuffer
from edgeflow.backends.tflm.lower import Lowered
from edgeflow.backends.tflm.model import Kernel, TensorKind, TfliteModel
from edgeflow.backends.tflm.plan import ALIGNMENT as ARENA_ALIGNMENT
from edgeflow.backends.tflm.structures import Build, Kernels, round_up
from edgeflow.board import McuBoard
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType
from edgeflow.render import Identifiers, identifier, render
from edgeflow.semantics.serialize import graph_digest
from edgeflow.toolchain.microlite import make_arguments
from edgeflow.toolchain.qemu import ICOUNT_SHIFT, MACHINES

_COLUMNS = 16
_STACK = 4096
"""Bytes that the program under QEMU leaves for its stack at least."""
_ONLY_INT8 = {
    Kernel.CONV_2D,
    Kernel.DEPTHWISE_CONV_2D,
    Kernel.FULLY_CONNECTED,
    Kernel.AVERAGE_POOL_2D,
    Kernel.MAX_POOL_2D,
    Kernel.ADD,
    Kernel.MUL,
    Kernel.SOFTMAX,
}
"""Kernels of which TFLite-Micro has a registration for int8 alone (tensorflow/lite/micro/kernels/*.h)."""


@dataclass(frozen=True)
class Port:
    """An input or output as the program's comments and constants say it; `lo` and `hi` are stored integers."""

    title: str
    ident: str
    index: int
    elements: int
    shape: str
    scale: str
    zero_point: int
    lo: int
    hi: int
    kind: TensorKind

    @property
    def word(self) -> str:
        """What a stored integer is called."""
        return "byte" if self.kind is TensorKind.INT8 else "value"

    @property
    def ctype(self) -> str:
        """Its type in C."""
        return f"{self.kind.value.lower()}_t"

    @property
    def member(self) -> str:
        """The member of TfLitePtrUnion that points to it."""
        return "int8" if self.kind is TensorKind.INT8 else "i16"

    @property
    def above_zero(self) -> str:
        """The integer as its distance from the zero point, in C."""
        point = self.zero_point
        return self.word if point == 0 else f"({self.word} {'-' if point > 0 else '+'} {abs(point)})"


def firmware_files(graph: Graph, lowered: Lowered, board: McuBoard, prefix: str, build: Build) -> dict[str, bytes]:
    """Relative path -> content of everything but the graph and the manifest."""
    digest = graph_digest(graph)
    content = write_flatbuffer(lowered.model, digest)
    name = identifier(prefix or graph.name)
    found = arena(describe(lowered.model), build)
    idents, registrations = Identifiers(), _registrations(lowered.model)
    shared = {
        "title": graph.name,
        "prefix": name,
        "digest": digest,
        "board": board,
        "inputs": _inputs(graph, lowered, idents),
        "outputs": _outputs(graph, lowered, idents),
        "registrations": registrations,
        "only_int8": any("INT8" in one for one in registrations),
        "layers": [(one.layer, one.kernel.value) for one in lowered.model.operators],
        "kernels": build.kernels.value,
        "size": len(content),
        "alignment": ALIGNMENT,
        "arena": found.needed,
        "arena_used": found.used if found.needed - found.used >= ARENA_ALIGNMENT else found.needed,
        "arena_size": round_up(round(found.needed * (1 + RAM_BAND)), ARENA_ALIGNMENT),
        "band": round(100 * RAM_BAND),
        "emulated": board.core.qemu_machine in MACHINES,
        "make_arguments": make_arguments(board.core.cpu, cmsis=build.kernels is Kernels.CMSIS_NN),
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
    texts |= _verification(board, shared)
    files = {name: text.encode("ascii", "backslashreplace") for name, text in texts.items()}
    return {"model.tflite": content, **files}


def _registrations(model: TfliteModel) -> list[str]:
    """A call for each kind of operator; for int8 alone where all of its operators are and TFLite-Micro has one."""
    found: list[str] = []
    for kernel in model.kernels:
        ours = [one for one in model.operators if one.kernel is kernel]
        kinds = {model.tensors[place].kind for one in ours for place in (*one.inputs[:2], one.output) if place >= 0}
        only = kernel in _ONLY_INT8 and kinds == {TensorKind.INT8}
        found.append(f"{kernel.method}({f'tflite::Register_{kernel.value}_INT8()' if only else ''})")
    return found


def _verification(board: McuBoard, shared: Mapping[str, object]) -> dict[str, str]:
    """The program that runs the model under QEMU, where edgeflow knows an emulated board with the board's core."""
    emulator = MACHINES.get(board.core.qemu_machine)
    if emulator is None:
        return {}
    flash, ram = board.flash_regions[0], board.ram_regions[0]
    regions = (
        {"name": "flash", "flash": True, "origin": emulator.flash, "size": min(flash.size, emulator.flash_size)},
        {"name": "ram", "flash": False, "origin": emulator.ram, "size": min(ram.size, emulator.ram_size)},
    )
    memory = {"board": board, "emulated": True, "machine": emulator.name, "regions": regions, "boot2": None}
    program = {"machine": emulator.name, "timer": emulator.timer, "icount_shift": ICOUNT_SHIFT}
    return {
        "verify/qemu.cc": render("tflm/qemu.cc.j2", **shared, **program, traps_unaligned=board.core.traps_unaligned),
        "verify/startup.c": render("firmware/startup.c.j2", board=board),
        "verify/qemu.ld": render(
            "firmware/memory.ld.j2", **memory, flash="flash", ram="ram", stack=_STACK, constructors=True
        ),
    }


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
        kind=found.kind,
    )
