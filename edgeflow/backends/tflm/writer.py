"""Collects the tensors and operators of a TFLite model while a graph is lowered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeflow.backends.tflm.arithmetic import scale_of
from edgeflow.backends.tflm.model import Kernel, NoOptions, Operator, Options, Quantization, Tensor, TensorKind
from edgeflow.backends.tflm.storage import Storage, zero_of
from edgeflow.backends.tflm.versions import version
from edgeflow.backends.tflm.widths import Width
from edgeflow.ir.graph import Bounds, Graph, Node
from edgeflow.ir.types import IntArray, Shape

ELSEWHERE = "use --backend c, which computes it exactly"
NARROWER = "quantize it to 8 bits or fewer, or use --backend c"


def refusal(cannot: str) -> str:
    """The sentence that says what the backend cannot do."""
    return f"backend tflm cannot {cannot}"


class Refused(Exception):
    """What TFLite cannot say about the node at hand (a text after "cannot"), and what to do about it."""

    def __init__(self, cannot: str, fix: str = ELSEWHERE) -> None:
        super().__init__(cannot)
        self.what, self.fix = refusal(cannot), fix


def layer_of(graph: Graph, name: str) -> str:
    """The source layer of a tensor."""
    tensor = graph.tensor(name)
    return tensor.layer if isinstance(tensor, Node) else tensor.name


def file_shape(shape: Shape) -> Shape:
    """A tensor's shape in the file: one sample, and room for the two spatial axes that the kernels read."""
    return (1, 1, *shape) if len(shape) == 2 else (1, *shape)


@dataclass
class Writer:
    """The model so far. `places` numbers the tensors that hold a graph's tensor, `stored` says how."""

    graph: Graph
    bounds: Mapping[str, Bounds]
    width: Width
    tensors: list[Tensor] = field(default_factory=list[Tensor])
    operators: list[Operator] = field(default_factory=list[Operator])
    places: dict[str, int] = field(default_factory=dict[str, int])
    stored: dict[str, Storage] = field(default_factory=dict[str, Storage])
    _names: set[str] = field(default_factory=set[str])

    def tensor(
        self, name: str, shape: Shape, kind: TensorKind, quantization: Quantization | None, data: bytes | None = None
    ) -> int:
        """Adds a tensor under a name of its own and returns its number."""
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}_{number}"
        self._names.add(unique)
        self.tensors.append(Tensor(unique, shape, kind, quantization, data))
        return len(self.tensors) - 1

    def constant(self, name: str, values: IntArray, kind: TensorKind, quantization: Quantization | None) -> int:
        """Adds a constant and returns its number."""
        data = values.astype(f"<i{kind.size}").tobytes()
        return self.tensor(name, values.shape, kind, quantization, data)

    def activation(self, name: str, title: str, shape: Shape, scale: float, storage: Storage) -> int:
        """Adds the tensor that holds a graph's tensor and returns its number."""
        quantization = Quantization((scale,), storage.zero_point)
        self.places[name] = self.tensor(title, file_shape(shape), storage.width.kind, quantization)
        self.stored[name] = storage
        return self.places[name]

    def shape(self, node: Node) -> Shape:
        """The shape that a node's tensor has in the file."""
        return file_shape(node.type.shape)

    def like(self, place: int, name: str, shape: Shape) -> int:
        """Adds a tensor of another shape with the type and the meaning of one that exists."""
        return self.tensor(name, shape, self.tensors[place].kind, self.quantization(place))

    def result(self, node: Node, storage: Storage) -> int:
        """Adds the tensor of a node's result, named after its layer, and returns its number."""
        scale = scale_of(node.label)
        if scale is None:
            raise Refused(f"say the unit {node.label}: TFLite has one float32 scale a tensor")
        if zero_of(node.label) != storage.zero:
            raise Refused(f"change the zero point in a {type(node.op).__name__}: TFLite keeps its input's")
        return self.activation(node.name, node.layer, node.type.shape, scale, storage)

    def source(self, node: Node) -> tuple[int, Storage]:
        """The tensor that a node reads first. Refused when TFLite does not hold it."""
        return self.place(node.inputs[0])

    def place(self, name: str) -> tuple[int, Storage]:
        """Where the file holds a tensor of the graph, and how. Refused when it does not."""
        if name not in self.places:
            layer, bits = layer_of(self.graph, name), self.graph.tensor(name).type.bits
            raise Refused(
                f"read the {bits}-bit sums of '{layer}': TFLite keeps 8 bits between layers",
                f"add a QActivation of 8 bits or fewer after '{layer}', or use --backend c",
            )
        return self.places[name], self.stored[name]

    def restored(self, name: str, storage: Storage, layer: str) -> int:
        """A tensor of the graph with other bytes for the same values: its own, or a copy."""
        place, before = self.place(name)
        if before == storage:
            return place
        tensor = self.tensors[place]
        quantization = Quantization(self.quantization(place).scales, storage.zero_point)
        result = self.tensor(f"{tensor.name}/moved", tensor.shape, tensor.kind, quantization)
        self.operator(Kernel.QUANTIZE, (place,), result, NoOptions(), layer)
        return result

    def moved(self, node: Node) -> tuple[int, int]:
        """The tensors of a node's input and result, for an operator that keeps scale and zero point."""
        place, storage = self.source(node)
        result = self.result(node, storage)
        if self.quantization(place) != self.quantization(result):
            raise Refused(f"change the unit in a {type(node.op).__name__}: TFLite keeps its input's")
        return place, result

    def quantization(self, place: int) -> Quantization:
        """What a stored tensor's bytes mean."""
        found = self.tensors[place].quantization
        assert found is not None
        return found

    def operator(
        self, kernel: Kernel, inputs: tuple[int, ...], output: int, options: Options, layer: str, macs: int = 0
    ) -> None:
        """Adds an operator in its smallest version."""
        number = version(kernel, [self.tensors[one] for one in inputs], self.tensors[output], options)
        self.operators.append(Operator(kernel, number, inputs, output, options, layer, macs))
