"""Teacher and student: reproducible, resumable, pruned exactly, never half written."""

# pyright: basic
from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.train.data import Dataset
from edgeflow.train.distill import distillation
from edgeflow.train.predict import load_model
from edgeflow.train.recipe import Config, Distill
from edgeflow.train.results import StudentResult, TeacherResult
from edgeflow.train.runtime import load_runtime
from edgeflow.train.student import train_student
from edgeflow.train.teacher import teacher_logits, train_teacher

from .conftest import MODELS, WriteRecipe

pytestmark = pytest.mark.xdist_group("keras")
Small = tuple[Config, Dataset]


class Recorder:
    """A Progress that keeps what it hears, and interrupts after some epoch of some stage."""

    def __init__(self, stage: str = "", epoch: int = 0) -> None:
        self.heard: list[tuple[str, int, int, str]] = []
        self.stop = (stage, epoch)

    def __call__(self, stage: str, epoch: int, epochs: int, metric: str, value: float) -> None:
        assert 0 <= value <= 1
        self.heard.append((stage, epoch, epochs, metric))
        if (stage, epoch) == self.stop:
            raise KeyboardInterrupt


def train(small: Small, folder: Path, progress: Recorder | None = None) -> tuple[TeacherResult, StudentResult]:
    config, data = small
    progress = progress or Recorder()
    teacher = train_teacher(config, data, folder, progress)
    return teacher, train_student(config, data, teacher.path, folder, progress)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_teacher_and_student_learn_and_say_what_they_are(small: Small, tmp_path: Path) -> None:
    progress = Recorder()
    teacher, student = train(small, tmp_path / "out", progress)
    assert progress.heard == [
        *(("teacher", epoch, 3, "accuracy") for epoch in (1, 2, 3)),
        *(("student", epoch, 4, "accuracy") for epoch in (1, 2, 3, 4)),
    ]
    assert names(tmp_path / "out") == ["student.json", "student.keras", "teacher.json", "teacher.keras"]
    assert (teacher.parameters, teacher.weight_bits) == (16 * 16 + 16 + 16 * 3 + 3, 323 * 32)
    assert (student.parameters, student.weight_bits) == (27 + 3 + 36 + 3, 27 * 5 + 36 * 7 + 6 * 8)
    assert teacher.accuracy > 0.8
    assert student.accuracy > 0.4
    assert [one.epoch for one in student.history] == [1, 2, 3, 4]


def test_the_file_has_exactly_the_zeros_asked_for(small: Small, tmp_path: Path) -> None:
    _, student = train(small, tmp_path)
    conv, logits = student.layers
    assert (conv.name, conv.weights, conv.zeros) == ("conv", 27, 16)
    assert (logits.name, logits.weights, logits.zeros) == ("logits", 36, 9)
    assert student.sparsity == 25 / 63
    model = load_model(student.path)
    for layer in student.layers:
        kernel = model.get_layer(layer.name).kernel
        assert int(np.count_nonzero(kernel.numpy() == 0)) == layer.zeros
        codes = np.asarray(model.get_layer(layer.name).kernel_quantizer_internal(kernel.value))
        assert int(np.count_nonzero(codes == 0)) == layer.quantized_zeros >= layer.zeros
    assert [round(one.sparsity * 63) for one in student.history] == [0, 0, 25, 25]


def test_two_runs_give_the_same_bytes(small: Small, tmp_path: Path) -> None:
    first = train(small, tmp_path / "a")
    second = train(small, tmp_path / "b")
    for one, other in zip(first, second, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert dataclasses.replace(one, path=other.path) == other
    config, data = small
    third = train((dataclasses.replace(config, seed=4), data), tmp_path / "c")
    assert third[0].path.read_bytes() != first[0].path.read_bytes()
    assert third[1].path.read_bytes() != first[1].path.read_bytes()


@pytest.mark.parametrize(("stage", "epoch"), [("teacher", 1), ("student", 2), ("student", 4)])
def test_an_interrupted_run_goes_on_and_ends_the_same(stage: str, epoch: int, small: Small, tmp_path: Path) -> None:
    whole = train(small, tmp_path / "whole")
    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        train(small, folder, Recorder(stage, epoch))
    assert not (folder / f"{stage}.keras").exists()
    assert (folder / f"{stage}.checkpoint.npz").exists()
    progress = Recorder()
    resumed = train(small, folder, progress)
    heard = [number for name, number, _, _ in progress.heard if name == stage]
    assert heard == list(range(epoch + 1, (3 if stage == "teacher" else 4) + 1))
    for one, other in zip(whole, resumed, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert one.history == other.history
    assert names(folder) == ["student.json", "student.keras", "teacher.json", "teacher.keras"]


def test_a_checkpoint_of_another_recipe_or_a_damaged_one_is_not_used(
    recipe: WriteRecipe, small: Small, tmp_path: Path
) -> None:
    whole = train(small, tmp_path / "whole")
    folder = tmp_path / "cut"
    other = dataclasses.replace(small[0], seed=9), small[1]
    with pytest.raises(KeyboardInterrupt):
        train(other, folder, Recorder("teacher", 2))
    progress = Recorder()
    assert train(small, folder, progress)[0].path.read_bytes() == whole[0].path.read_bytes()
    assert progress.heard[0] == ("teacher", 1, 3, "accuracy")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "teacher.checkpoint.npz").write_bytes(b"PK\x03\x04 half of")
    assert train(small, damaged)[0].path.read_bytes() == whole[0].path.read_bytes()


def test_a_second_run_reuses_what_was_made_from_the_same(recipe: WriteRecipe, small: Small, tmp_path: Path) -> None:
    first = train(small, tmp_path / "out")
    progress = Recorder()
    again = train(small, tmp_path / "out", progress)
    assert progress.heard == []
    assert [one.reused for one in (*first, *again)] == [False, False, True, True]
    assert tuple(dataclasses.replace(one, reused=False) for one in again) == first

    (small[0].folder / "models.py").write_text(MODELS + "\n# changed\n")
    train_teacher(small[0], small[1], tmp_path / "out", progress)
    assert len(progress.heard) == 3
    progress = Recorder()
    train_teacher(small[0], small[1], tmp_path / "out", progress, fresh=True)
    assert len(progress.heard) == 3
    (tmp_path / "out" / "teacher.keras").write_bytes(b"replaced")
    progress = Recorder()
    assert not train_teacher(small[0], small[1], tmp_path / "out", progress).reused


def test_ctrl_c_while_saving_leaves_the_former_student_whole(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, student = train(small, tmp_path)
    before = student.path.read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeflow.artifacts.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_student(small[0], small[1], teacher.path, tmp_path, fresh=True)
    assert student.path.read_bytes() == before
    assert names(tmp_path / "out" if (tmp_path / "out").exists() else tmp_path) == [
        "data.npz",
        "edgeflow.toml",
        "models.py",
        "student.json",
        "student.keras",
        "teacher.json",
        "teacher.keras",
    ]


def test_without_a_teacher_the_labels_alone_are_learned(recipe: WriteRecipe, small: Small, tmp_path: Path) -> None:
    config = dataclasses.replace(small[0], teacher=None, distill=None, prune=None)
    student = train_student(config, small[1], None, tmp_path / "out")
    assert student.sparsity == 0
    assert names(tmp_path / "out") == ["student.json", "student.keras"]
    with pytest.raises(EdgeflowError) as caught:
        train_teacher(config, small[1], tmp_path / "out")
    assert str(caught.value) == f"{config.path}: the recipe has no [teacher]\n  fix: add a [teacher] table"


def test_a_loss_that_diverges_is_said(small: Small, tmp_path: Path) -> None:
    config = dataclasses.replace(small[0], distill=Distill(temperature=1e-36, soft=1000.0, hard=0.0))
    teacher = train_teacher(config, small[1], tmp_path)
    with pytest.raises(EdgeflowError) as caught:
        train_student(config, small[1], teacher.path, tmp_path)
    assert str(caught.value) == (
        "the student's loss is no longer a number in epoch 1\n  fix: lower learning_rate in [student]"
    )


def test_a_teachers_file_must_hold_the_teachers_weights(small: Small, tmp_path: Path) -> None:
    teacher, student = train(small, tmp_path)
    assert teacher_logits(small[0], small[1], teacher.path).shape == (96, 3)
    with pytest.raises(EdgeflowError, match=r"student\.keras: does not hold the weights of \[teacher\]'s model: "):
        train_student(small[0], small[1], student.path, tmp_path)


def test_a_pruned_layer_must_exist(recipe: WriteRecipe, small: Small, tmp_path: Path) -> None:
    config = recipe(("layers = { logits = 0.25 }", "layers = { logit = 0.25 }"))
    with pytest.raises(EdgeflowError) as caught:
        train_student(dataclasses.replace(config, distill=None), small[1], None, tmp_path)
    assert str(caught.value) == (
        f'{config.path}:28: [prune.layers] names "logit", which is no layer with a kernel; did you mean "logits"?\n'
        "  fix: layers with a kernel: conv, logits"
    )


def test_distillation_is_what_its_docstring_says() -> None:
    runtime = load_runtime()
    tf = runtime.tf
    teacher, given = np.array([[1.0, 3.0, 0.0]], np.float32), np.array([[2.0, 0.5, -1.0]], np.float32)
    loss = distillation(runtime, Distill(temperature=2.0, soft=0.25, hard=0.75))
    value = float(loss(tf.constant([1]), tf.constant(given), tf.constant(teacher)))

    def softmax(logits: np.ndarray) -> np.ndarray:
        return np.exp(logits) / np.exp(logits).sum()

    p, q = softmax(teacher.astype(float) / 2), softmax(given.astype(float) / 2)
    expected = 0.25 * 4 * float((p * np.log(p / q)).sum()) - 0.75 * float(np.log(softmax(given.astype(float))[0, 1]))
    assert value == pytest.approx(expected, rel=1e-6)


def test_a_saved_model_carries_no_date(small: Small, tmp_path: Path) -> None:
    teacher = train_teacher(small[0], small[1], tmp_path)
    with zipfile.ZipFile(teacher.path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("metadata.json"))["date_saved"] == "1980-01-01@00:00:00"
