"""A `.tflite` file through every command: imported, built, verified against TFLite-Micro, refused where it must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError, MissingTool
from edgeflow.frontends import load_model
from edgeflow.frontends.tflite import import_tflite
from edgeflow.frontends.tflite.importer import readable
from edgeflow.frontends.tflite.needed import needed
from edgeflow.frontends.tflite.original import ORIGINAL
from edgeflow.ir.types import Affine
from edgeflow.toolchain import tflm
from edgeflow.vectors import write_vectors
from tests.conftest import Answer, Command, NeedTool
from tests.frontends.tflite.make import Making, write
from tests.frontends.tflite.wheel import assert_equal

Line = Callable[[str], Answer]


@pytest.fixture
def command(edgeflow: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    """Runs a whole command line, in a new folder."""
    monkeypatch.chdir(tmp_path)
    return lambda words: edgeflow(*words.split())


def making() -> Making:
    """A LOGISTIC of ten int8 values."""
    made = Making("curve")
    x = made.input((1, 10), "INT8", 0.1, 3, name="x")
    made.add("LOGISTIC", (x,), (1, 10), 1 / 256, -128)
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "curve.tflite"
    path.write_bytes(making().write())
    return path


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    path = tmp_path / "floats.npz"
    rng = np.random.default_rng(1)
    np.savez(path, x=rng.normal(0, 5, (20, 10)).astype(np.float32), labels=np.arange(20) % 10)
    return path


def test_from_a_file_to_a_verified_firmware(
    command: Line, model: Path, floats: Path, wheel: None, need_tool: NeedTool
) -> None:
    need_tool("gcc")
    answer = command("import curve.tflite -o graph")
    assert answer.code == 0, answer.err
    assert Path("graph", ORIGINAL).read_bytes() == model.read_bytes()
    assert command("inspect curve.tflite").out.startswith(
        "curve  1 layer, equals the .tflite file in TFLite-Micro, byte for byte\n"
    )
    told = command("inspect curve.tflite --explain logistic0")
    assert (told.code, "table   256 entries" in told.out) == (0, True)
    assert command("check curve.tflite --board rpi-pico").code == 0
    for source in ("curve.tflite", "graph"):
        built = command(f"build {source} --board rpi-pico -o firmware --force")
        assert built.code == 0, built.err
        assert "next: edgeflow verify firmware --data inputs.npz" in built.out
        assert Path("firmware", "graph", ORIGINAL).read_bytes() == model.read_bytes()
        answer = command("verify firmware --data floats.npz --runner host")
        assert answer.code == 0, answer.err
        lines = answer.out.splitlines()
        assert lines[0].split() == ["TFLite-Micro,", "your", "file", "20", "0", "of", "200", "values", "differ"]
        assert lines[1].split() == ["integer", "graph", "20", "the", "reference"]
        assert lines[3] == "  bit-exact"
        assert "accuracy of the integers" in answer.out
    found = command("verify firmware --data floats.npz --runner host --json").json
    assert found["reference"]["title"] == "TFLite-Micro, your file"
    assert command("build firmware --board nucleo-f446re -o again").code == 0
    assert Path("again", "graph", ORIGINAL).is_file()


def test_integers_of_the_inputs_own_type_are_taken_as_they_are(
    command: Line, model: Path, tmp_path: Path, wheel: None, need_tool: NeedTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_tool("gcc")
    seen: list[np.ndarray] = []
    invoke = tflm.invoke

    def watched(path: Path, inputs: Any, outputs: int) -> tflm.Answer:
        seen.extend(inputs)
        return invoke(path, inputs, outputs)

    monkeypatch.setattr(tflm, "invoke", watched)
    assert command("build curve.tflite --board rpi-pico -o firmware").code == 0
    codes = np.arange(-128, 132).reshape(26, 10) % 256 - 128
    np.save(tmp_path / "codes.npy", codes.astype(np.int8))
    assert command("verify firmware --data codes.npy --runner host").code == 0
    np.testing.assert_array_equal(seen[-1].reshape(26, 10), codes)
    np.save(tmp_path / "reals.npy", codes // 8)
    assert command("verify firmware --data reals.npy --runner host").code == 0
    np.testing.assert_array_equal(
        seen[-1].reshape(26, 10), np.clip(np.rint(codes // 8 / np.float32(0.1)) + 3, -128, 127)
    )
    write_vectors(
        tmp_path / "vectors.npz", {"x": (codes // 8).astype(np.float32)}, {"any": np.zeros((26, 1), np.float32)}
    )
    assert command("verify firmware --vectors vectors.npz --runner host").code == 0
    np.testing.assert_array_equal(seen[-1], seen[-2])


def test_data_of_another_scale_is_refused(command: Line, model: Path, tmp_path: Path) -> None:
    assert command("build curve.tflite --board rpi-pico -o firmware").code == 0
    np.save(tmp_path / "pixels.npy", np.arange(256, dtype=np.uint8)[:250].reshape(25, 10))
    assert command("verify firmware --data pixels.npy").err == (
        'error: pixels.npy: 94% of the values for input "x" lie far outside of what it stores, -13.1 to 12.4\n'
        "  fix: scale the data as in training; for the model's own integers, give them as int8\n"
    )


def test_a_difference_from_tflite_micro_is_no_success(
    command: Line, model: Path, floats: Path, wheel: None, need_tool: NeedTool
) -> None:
    need_tool("gcc")
    assert command("build curve.tflite --board rpi-pico -o firmware").code == 0
    other = making()
    other.tensors[0] = replace(other.tensors[0], quantization=None)
    x = other.tensor("x", (1, 10), "INT8", 0.1, 4)
    other.tensors[0] = replace(other.tensors[x], index=0)
    Path("firmware", "graph", ORIGINAL).write_bytes(other.write())
    answer = command("verify firmware --data floats.npz --runner host")
    assert answer.code == 1
    assert "NOT bit-exact: first at layer 'logistic0', sample 0, element" in answer.out
    assert f"changed since edgeflow wrote it: graph/{ORIGINAL}" in answer.out
    two = Making("two")
    for name in ("x", "y"):
        two.input((1, 10), name=name)
    two.add("LOGISTIC", (0,), (1, 10), 1 / 256, -128)
    Path("firmware", "graph", ORIGINAL).write_bytes(two.write())
    answer = command("verify firmware --data floats.npz --runner host")
    assert answer.err == (
        f"error: firmware/graph/{ORIGINAL}: is not the model of the graph beside it\n  fix: build the folder again\n"
    )


def test_a_folder_without_its_file_says_so(command: Line, model: Path, floats: Path) -> None:
    assert command("build curve.tflite --board rpi-pico -o firmware").code == 0
    Path("firmware", "graph", ORIGINAL).unlink()
    assert command("verify firmware --data floats.npz").err == (
        "error: firmware: keeps no .tflite file, which verify asks\n  fix: build it again from that file\n"
    )
    write_vectors(Path("v.npz"), {"x": np.zeros((2, 10), np.float32)}, {"logistic0": np.zeros((2, 10), np.float32)})
    assert command("verify firmware --vectors v.npz --runner host").err == (
        "error: output 'logistic0' has no power-of-two unit, so predict cannot be compared exactly\n"
        "  fix: build the folder again from the .tflite file, which it then keeps and asks\n"
    )


def test_a_missing_wheel_is_named_with_the_way_to_install_it(
    command: Line, model: Path, floats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("build curve.tflite --board rpi-pico -o firmware").code == 0

    def missing() -> None:
        raise MissingTool("the tflite-micro wheel is not installed", fix='pip install "edgeflow[tflm]"')

    monkeypatch.setattr(tflm, "require_wheel", missing)
    answer = command("verify firmware --data floats.npz")
    assert answer.code == 2
    assert answer.err == 'error: the tflite-micro wheel is not installed\n  fix: pip install "edgeflow[tflm]"\n'


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "import curve.tflite -o graph --weights w.h5",
            "curve.tflite: holds its own weights\n  fix: leave out --weights",
        ),
        (
            "build curve.tflite --board rpi-pico -o firmware --input anything",
            "curve.tflite: says itself what its inputs are\n  fix: leave out --input",
        ),
        (
            "predict curve.tflite --data floats.npz -o vectors",
            "curve.tflite: a TFLite model, which QKeras cannot run; edgeflow verify asks TFLite-Micro itself\n"
            "  fix: edgeflow build curve.tflite --board B -o firmware, then edgeflow verify firmware --data floats.npz",
        ),
        (
            "quantize curve.tflite --data floats.npz -o graph",
            "curve.tflite: a TFLite model: quantize takes the float Keras model\n"
            "  fix: give that; an int8 or 16x8 .tflite file is quantized: edgeflow import reads it as it is",
        ),
        (
            "import none.tflite -o graph",
            "none.tflite: does not exist\n  fix: check the path",
        ),
        (
            "import bad.tflite -o graph",
            "bad.tflite: damaged or not a TFLite model: it does not begin like a .tflite file\n"
            "  fix: convert the model again, or copy the file again",
        ),
        (
            "verify built",
            "needs --data, inputs of the model: 'x' of shape (n, 10), floats or int8\n"
            "  fix: edgeflow verify built --data inputs.npz",
        ),
        (
            "verify built --data floats.npz --vectors floats.npz",
            "takes --vectors or --data, not both\n  fix: leave one of them out",
        ),
        (
            "verify built --data other.npz",
            'other.npz: the model has no input "y"\n  fix: its inputs: x',
        ),
        (
            "verify built --data short.npy",
            'short.npy: input "x" takes (n, 10), but the data has shape (5, 9)\n'
            "  fix: give the samples along the first axis, in the shape that the model was trained on",
        ),
    ],
)
def test_refusals_say_what_to_do(command: Line, model: Path, floats: Path, line: str, text: str) -> None:
    Path("bad.tflite").write_bytes(b"\0\0\0\0TFL2")
    np.savez("other.npz", y=np.zeros((3, 10)))
    np.save("short.npy", np.zeros((5, 9)))
    if "built" in line:
        assert command("build curve.tflite --board rpi-pico -o built").code == 0
    answer = command(line)
    assert answer.code == 2
    assert answer.err == f"error: {text}\n"


def test_a_keras_models_folder_needs_vectors(command: Line, data: Path, floats: Path) -> None:
    student = data / "digits" / "student.keras"
    assert command(f"build {student} --board rpi-pico -o firmware").code == 0
    assert command("verify firmware").err == (
        "error: needs --vectors; edgeflow predict makes them\n  fix: edgeflow verify firmware --vectors vectors.npz\n"
    )
    assert command("verify firmware --data floats.npz").err == (
        "error: floats.npz: inputs alone are not enough: QKeras' own outputs are compared\n"
        "  fix: edgeflow predict MODEL --data floats.npz -o vectors, then --vectors vectors/vectors.npz\n"
    )


def test_the_graph_says_what_a_unit_means(model: Path) -> None:
    graph = load_model(model)
    assert graph.name == "curve"
    assert [(one.name, one.label) for one in graph.inputs] == [("x", Affine(float(np.float32(0.1)), 3))]
    assert [one.name for one in graph.outputs] == ["logistic0"]


def test_a_signatures_names_are_made_plain_and_unlike(tmp_path: Path) -> None:
    made = making()
    second = made.add("LOGISTIC", (0,), (1, 10), 1 / 256, -128)
    file = made.file(1, second)
    names = {0: "my input\x1b", 1: "out", second: "out"}
    graph = import_tflite(write(file, names), "a.tflite")
    assert [one.name for one in graph.inputs] == ["my_input_"]
    assert [one.name for one in graph.outputs] == ["out", "out_2"]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("net/activation/Relu;net/conv2d_1/BiasAdd;net/conv2d/Conv2D;net/conv2d_1/Conv2D1", "conv2d_1"),
        ("net/conv2d/Relu;net/conv2d/Conv2D;conv2d/bias", "conv2d"),
        ("net/conv2d/Conv2D;net/conv2d/BiasAdd/ReadVariableOp/resource1", "conv2d"),
        ("net/dense/MatMul;net/dense/BiasAdd", "dense"),
        ("net/re_lu_3/Relu;net/add/add", "add"),
        ("net/max_pooling2d_1/MaxPool", "max_pooling2d_1"),
        ("StatefulPartitionedCall:01", "StatefulPartitionedCall"),
        ("serving_default_x:0", "serving_default_x"),
        ("Identity", "Identity"),
        ("my layer \x1b[31m", "my_layer_31m"),
        ("", "tensor"),
        ("/;:0", "tensor"),
        ("x" * 100, "x" * 80),
    ],
)
def test_layers_are_called_as_in_the_model_that_was_converted(name: str, layer: str) -> None:
    assert readable(name) == layer


@pytest.mark.parametrize("output", ["StatefulPartitionedCall:0", "Identity_1", "resource1", "", "17"])
def test_layers_without_a_name_are_called_by_their_operator(output: str) -> None:
    made = Making()
    x = made.input((1, 4), name="x")
    for _ in range(3):
        y = made.tensor(output, (1, 4), "INT8", 1 / 256, -128)
        made.operator("LOGISTIC", (x,), (y,))
        x = y
    graph = import_tflite(made.write(), "a.tflite")
    assert [node.layer for node in graph.nodes] == ["logistic", "logistic_1", "logistic_2"]
    assert [one.name for one in graph.outputs] == [readable(output)]


@pytest.mark.parametrize(
    ("weights", "layer"),
    [
        ("net/dense_9/MatMul", "dense_9"),
        ("net/dense_9/MatMul1", "dense_9"),
        ("w", "fully_connected"),
        ("a/b", "fully_connected"),
    ],
)
def test_a_layer_without_a_name_is_called_by_its_weights(weights: str, layer: str) -> None:
    made = Making()
    x = made.input((1, 2), name="x")
    weight = made.constant([[1, 2]], "INT8", 0.1, name=weights)
    y = made.tensor("Identity", (1, 1), "INT8", 0.1, 0)
    made.operator("FULLY_CONNECTED", (x, weight, -1), (y,))
    graph = import_tflite(made.write(), "a.tflite")
    assert {node.layer for node in graph.nodes} == {layer}
    assert [one.name for one in graph.outputs] == ["Identity"]


def failure(made: Making) -> str:
    with pytest.raises(EdgeflowError) as caught:
        import_tflite(made.write(), "a.tflite")
    return str(caught.value)


@pytest.mark.parametrize(
    ("shape", "dynamic", "text"),
    [
        ((1, 10), (0,), None),
        ((1, 10), (0, 1), "input 'x': tensor 0 ('x') has an axis 1 without a fixed length"),
        ((10,), (0,), "input 'x': tensor 0 ('x') has an axis 0 without a fixed length"),
    ],
)
def test_only_the_batch_may_be_open(shape: tuple[int, ...], dynamic: tuple[int, ...], text: str | None) -> None:
    made = Making()
    x = made.input(shape, name="x")
    made.add("LOGISTIC", (x,), shape, 1 / 256, -128)
    made.tensors[0] = replace(made.tensors[0], dynamic=dynamic)
    if text is None:
        assert import_tflite(made.write(), "a.tflite").inputs[0].type.shape == (10,)
    else:
        assert failure(made) == f"{text}\n  fix: convert the model with a fixed shape; the batch may be open"


@pytest.mark.parametrize("code", ["FlexErf", "CUMSUM"])
def test_operators_that_no_one_reads_are_named(code: str) -> None:
    made = Making()
    x = made.input((1, 10), name="x")
    made.add("LOGISTIC", (x,), (1, 10), 1 / 256, -128)
    made.add(code, (1,), (1, 10))
    kind = "custom operator" if code == "FlexErf" else "operator"
    first, second = failure(made).splitlines()
    assert first == f"operator 1 ({code}): {kind} {code} is not one that edgeflow reads"
    assert second.startswith("  fix: it reads ")


def test_a_shape_that_is_computed_does_not_matter(wheel: None) -> None:
    made = Making("flatten")
    x = made.input((1, 2, 5), name="x")
    shape = made.tensor("shape", (3,), "INT32", None)
    made.operator("SHAPE", (x,), (shape,))
    ints = [made.constant([one], "INT32") for one in (0, 1, 1)]
    batch = made.tensor("batch", (), "INT32", None)
    made.operator("STRIDED_SLICE", (shape, *ints), (batch,), shrink_axis_mask=1)
    flat = made.tensor("flat", (2,), "INT32", None)
    made.operator("PACK", (batch, made.constant(10, "INT32")), (flat,), values_count=2)
    y = made.tensor("y", (1, 10), "INT8", 0.05)
    made.operator("RESHAPE", (x, flat), (y,))
    made.add("LOGISTIC", (y,), (1, 10), 1 / 256, -128)
    assert [one.code for one in needed(made.file()).operators] == ["RESHAPE", "LOGISTIC"]
    assert_equal([made.file()])


def test_a_float_model_is_told_how_to_convert() -> None:
    made = Making()
    x = made.input((1, 10), "FLOAT32", name="x")
    made.add("LOGISTIC", (x,), (1, 10))
    assert failure(made) == (
        "input 'x': tensor 0 ('x') has the type FLOAT32\n"
        "  fix: convert the model with full integer quantization (int8 or 16x8)"
    )
