"""The command `report`: what a run says of memory and layers, runs of older versions, and what is no run."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import Command, NeedTool


def test_a_run_has_ram_over_time_and_each_layers_part(
    edgeflow: Command, student: Path, data: Path, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("gcc")
    firmware = tmp_path / "fw"
    assert edgeflow("build", student, "--board", "rpi-pico", "-o", firmware).code == 0
    assert edgeflow("verify", firmware, "--vectors", data / "digits" / "vectors.npz", "--runner", "host").code == 0
    record = json.loads((firmware / "run.json").read_text())
    (target,) = record["targets"]
    memory = target["memory"]
    assert {one["what"] for one in memory["placed"]} >= {"image", "conv1", "logits"}
    assert max(one["offset"] + one["size"] for one in memory["placed"]) == memory["size"]
    assert max(one["last"] for one in memory["placed"]) == len(memory["calls"]) - 1
    assert memory["stack"] > 0
    assert {one["name"] for one in target["layers"] if one["layer"] == "conv1"} == {"flash", "RAM", "instructions"}
    assert edgeflow("report", firmware).code == 0
    page = (firmware / "report.html").read_text()
    assert "<h3>RAM over time</h3>" in page
    assert "<h3>Layer by layer</h3>" in page
    assert "http" not in page, "the page needs no network"
    older = tmp_path / "older"
    older.mkdir()
    del target["memory"], target["layers"]
    (older / "run.json").write_text(json.dumps(record))
    assert edgeflow("report", older).code == 0
    page = (older / "report.html").read_text()
    assert "bit-exact on every target" in page
    assert "RAM over time" not in page


def test_a_model_file_is_no_run(edgeflow: Command, student: Path, data: Path) -> None:
    for model in (student, data / "models" / "ad01_int8.tflite"):
        answer = edgeflow("report", model)
        assert answer.code == 2
        assert answer.err == (
            f"error: {model}: is a model, and no run of one\n"
            "  fix: edgeflow build and verify make a folder with a run.json\n"
        )
    inputs = data / "models" / "ad01_inputs.npy"
    assert edgeflow("report", inputs).err == (
        f"error: {inputs}: is no run.json\n  fix: give the folder of edgeflow run, or one that was verified\n"
    )
