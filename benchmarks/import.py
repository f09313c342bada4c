"""Seconds to import a functional model of 100 layers (QConv2D, QDense, QActivation, Add, pools), step by step.

`make bench-import` prints the table and writes build/bench/import.json: the best of five runs. The child is the
guarded process that opens the file; its start includes Python, NumPy and h5py.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from edgeflow.artifacts import write_json
from edgeflow.frontends import load_model
from edgeflow.frontends.qkeras import import_content
from edgeflow.frontends.qkeras.content import READER, read_content
from edgeflow.toolchain.process import Limits, run

LAYERS = 100
RUNS = 5
SIZE, CHANNELS = 16, 8


def quantized_bits(bits: int, integer: int) -> dict[str, Any]:
    """A quantizer as a file has it."""
    return {"class_name": "quantized_bits", "config": {"bits": bits, "integer": integer, "alpha": 1}}


class Net:
    """Writes a `.keras` file layer by layer, as qkeras-v3 would."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(7)
        self._layers: list[dict[str, Any]] = []
        self._weights: dict[str, list[np.ndarray[Any, Any]]] = {}
        self.last = self.add("InputLayer", [], batch_shape=[None, SIZE, SIZE, CHANNELS])
        self.last = self.act(quantized_bits(6, 2))

    def __len__(self) -> int:
        return len(self._layers)

    def add(self, kind: str, inputs: list[str], *shapes: tuple[int, ...], **config: Any) -> str:
        """A layer with random weights of these shapes; returns its name."""
        name = f"layer_{len(self._layers)}"
        tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [one, 0, 0]}} for one in inputs]
        self._layers.append(
            {
                "module": "qkeras" if kind.startswith("Q") else "keras.layers",
                "class_name": kind,
                "config": {"name": name, "dtype": "float32", **config},
                "name": name,
                "inbound_nodes": [{"args": [tensors], "kwargs": {}}] if inputs else [],
            }
        )
        self._weights[name] = [self._random.normal(0, 0.3, shape).astype(np.float32) for shape in shapes]
        return name

    def act(self, quantizer: dict[str, Any]) -> str:
        """QActivation."""
        return self.add("QActivation", [self.last], activation=quantizer)

    def weighted(self, kind: str, *kernel: int, **config: Any) -> str:
        """QConv2D or QDense."""
        config |= {"kernel_quantizer": quantized_bits(4, 0), "bias_quantizer": quantized_bits(6, 1)}
        return self.add(kind, [self.last], kernel, kernel[-1:], use_bias=True, activation="linear", **config)

    def conv(self) -> str:
        """A 3x3 convolution that keeps the shape."""
        square = {"kernel_size": [3, 3], "strides": [1, 1], "dilation_rate": [1, 1], "padding": "same"}
        return self.weighted("QConv2D", 3, 3, CHANNELS, CHANNELS, filters=CHANNELS, groups=1, **square)

    def save(self, path: Path) -> None:
        """Writes the file."""
        ends = {"input_layers": ["layer_0", 0, 0], "output_layers": [self.last, 0, 0]}
        config = {"class_name": "Functional", "config": {"name": "deep", "layers": self._layers, **ends}}
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            for name, arrays in self._weights.items():
                group: Any = file.create_group(f"layers/{name}/vars")
                group.attrs["name"] = name
                for number, values in enumerate(arrays):
                    group[str(number)] = values
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("model.weights.h5", stream.getvalue())


def deep_model(path: Path) -> None:
    """Residual blocks, then a dense head: LAYERS layers in all."""
    net = Net()
    while len(net) <= LAYERS - 16:
        start = net.last
        net.last = net.conv()
        net.last = net.act(quantized_bits(6, 2))
        net.last = net.conv()
        net.last = net.act(quantized_bits(6, 2))
        net.last = net.add("Add", [start, net.last])
        net.last = net.act({"class_name": "quantized_relu", "config": {"bits": 6, "integer": 2}})
    net.last = net.add("MaxPooling2D", [net.last], pool_size=[4, 4], strides=[4, 4], padding="valid")
    net.last = net.add("Flatten", [net.last])
    inputs = (SIZE // 4) ** 2 * CHANNELS
    while len(net) < LAYERS:
        net.last = net.weighted("QDense", inputs, 16, units=16)
        inputs = 16
        net.last = net.act(quantized_bits(6, 2)) if len(net) < LAYERS else net.last
    assert len(net) == LAYERS
    net.save(path)


def best(action: Callable[[], object]) -> float:
    """Seconds of the fastest of RUNS runs."""
    times: list[float] = []
    for _ in range(RUNS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Prints and writes the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep.keras"
        deep_model(path)
        content = read_content(path)
        graph = import_content(content, str(path))
        limits = Limits(seconds=60)
        seconds = {
            "start of the child": best(lambda: run([sys.executable, "-I", "-c", "import h5py, numpy"], limits)),
            "the child": best(lambda: run([sys.executable, "-I", str(READER), str(path)], limits)),
            "reading": best(lambda: read_content(path)),
            "building the graph": best(lambda: import_content(content, str(path))),
            "all": best(lambda: load_model(path)),
        }
    print(f"{LAYERS} layers, {len(graph.nodes)} ops; seconds")
    for name, value in seconds.items():
        print(f"{name:20} {value:6.3f}")
    write_json(Path("build/bench/import.json"), {"layers": LAYERS, "ops": len(graph.nodes), "seconds": seconds})


if __name__ == "__main__":
    main()
