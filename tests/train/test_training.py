"""Teacher and student: reproducible, resumable, pruned exactly, never half written."""

# pyright: basic
from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.train.data import Dataset, load_data
from edgeflow.train.distill import distillation, with_blends
from edgeflow.train.loop import Epoch
from edgeflow.train.predict import load_model
from edgeflow.train.progress import silent
from edgeflow.train.recipe import Config, Distill
from edgeflow.train.results import StudentResult, TeacherResult
from edgeflow.train.runtime import load_runtime
from edgeflow.train.student import train_student
from edgeflow.train.teacher import train_teacher

from .conftest import MODELS, write_recipe

pytestmark = pytest.mark.xdist_group("keras")
DONE = ["student.json", "student.keras", "teacher.json", "teacher.keras"]


class Recorder:
    """A Progress that keeps what it hears, and interrupts after some epoch."""

    def __init__(self, stop: int = 0) -> None:
        self.heard: list[tuple[str, int, int, str]] = []
        self.stop = stop

    def __call__(self, stage: str, epoch: int, epochs: int, metric: str, value: float) -> None:
        assert 0 <= value <= 1
        self.heard.append((stage, epoch, epochs, metric))
        if epoch == self.stop:
            raise KeyboardInterrupt


@dataclasses.dataclass(frozen=True)
class Trained:
    """One whole training, made once; tests work in copies of its folder."""

    config: Config
    data: Dataset
    folder: Path
    teacher: TeacherResult
    student: StudentResult
    progress: Recorder

    def copy(self, folder: Path, *without: str) -> Path:
        shutil.copytree(self.folder, folder)
        for name in without:
            (folder / name).unlink()
        return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    config = write_recipe(tmp_path_factory.mktemp("recipe"))
    data, folder, progress = load_data(config), tmp_path_factory.mktemp("trained") / "out", Recorder()
    teacher = train_teacher(config, data, folder, progress)
    student = train_student(config, data, teacher.path, folder, progress)
    return Trained(config, data, folder, teacher, student, progress)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_teacher_and_student_learn_and_say_what_they_are(trained: Trained) -> None:
    assert trained.progress.heard == [
        *(("teacher", epoch, 3, "accuracy") for epoch in (1, 2, 3)),
        *(("student", epoch, 4, "accuracy") for epoch in (1, 2, 3, 4)),
    ]
    assert names(trained.folder) == DONE
    teacher, student = trained.teacher, trained.student
    assert (teacher.parameters, teacher.weight_bits) == (323, 323 * 32)
    assert (student.parameters, student.weight_bits) == (27 + 3 + 36 + 3, 27 * 5 + 36 * 7 + 6 * 8)
    assert teacher.accuracy > 0.8
    assert student.accuracy > 0.7
    assert [one.epoch for one in student.history] == [1, 2, 3, 4]


def test_the_file_has_exactly_the_zeros_asked_for(trained: Trained) -> None:
    student = trained.student
    assert [(one.name, one.weights, one.zeros) for one in student.layers] == [("conv", 27, 16), ("logits", 36, 9)]
    assert student.sparsity == 25 / 63
    model = load_model(student.path)
    for one in student.layers:
        layer = model.get_layer(one.name)
        codes = np.asarray(layer.kernel_quantizer_internal(layer.kernel.value))
        assert int(np.count_nonzero(layer.kernel.numpy() == 0)) == one.zeros
        assert int(np.count_nonzero(codes == 0)) == one.quantized_zeros
        assert one.quantized_zeros >= one.zeros
    assert [round(epoch.sparsity * 63) for epoch in student.history] == [0, 0, 25, 25]


def test_two_runs_give_the_same_bytes_and_another_seed_others(trained: Trained, tmp_path: Path) -> None:
    teacher = train_teacher(trained.config, trained.data, tmp_path)
    assert teacher == dataclasses.replace(trained.teacher, path=teacher.path)
    assert teacher.path.read_bytes() == trained.teacher.path.read_bytes()
    student = train_student(trained.config, trained.data, teacher.path, tmp_path)
    assert student == dataclasses.replace(trained.student, path=student.path)
    assert student.path.read_bytes() == trained.student.path.read_bytes()
    other = train_student(dataclasses.replace(trained.config, seed=4), trained.data, teacher.path, tmp_path)
    assert other.path.read_bytes() != trained.student.path.read_bytes()


@pytest.mark.parametrize("epoch", [1, 3])
def test_an_interrupted_teacher_goes_on_and_ends_the_same(epoch: int, trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_teacher(trained.config, trained.data, tmp_path, Recorder(epoch))
    assert names(tmp_path) == ["teacher.checkpoint.npz"]
    progress = Recorder()
    teacher = train_teacher(trained.config, trained.data, tmp_path, progress)
    assert [number for _, number, _, _ in progress.heard] == list(range(epoch + 1, 4))
    assert teacher == dataclasses.replace(trained.teacher, path=teacher.path)
    assert teacher.path.read_bytes() == trained.teacher.path.read_bytes()
    assert names(tmp_path) == ["teacher.json", "teacher.keras"]


def test_an_interrupted_student_goes_on_and_ends_the_same(trained: Trained, tmp_path: Path) -> None:
    folder = trained.copy(tmp_path / "out", "student.json", "student.keras")
    teacher = folder / "teacher.keras"
    with pytest.raises(KeyboardInterrupt):
        train_student(trained.config, trained.data, teacher, folder, Recorder(2))
    assert names(folder) == ["student.checkpoint.npz", "teacher.json", "teacher.keras"]
    progress = Recorder()
    student = train_student(trained.config, trained.data, teacher, folder, progress)
    assert [number for _, number, _, _ in progress.heard] == [3, 4]
    assert student.history == trained.student.history
    assert student.path.read_bytes() == trained.student.path.read_bytes()
    assert names(folder) == DONE


def starts_with_epoch(config: Config, trained: Trained, folder: Path, *, fresh: bool = False) -> int:
    """Which epoch a teacher's training in this folder begins with; it is interrupted there."""
    progress = Recorder()
    for stop in range(1, 4):
        progress.stop = stop
        try:
            assert train_teacher(config, trained.data, folder, progress, fresh=fresh).reused
        except KeyboardInterrupt:
            return progress.heard[0][1]
        if not progress.heard:
            return 0
    raise AssertionError


def test_a_checkpoint_is_used_only_if_whole_and_of_the_same_recipe(trained: Trained, tmp_path: Path) -> None:
    assert starts_with_epoch(trained.config, trained, tmp_path) == 1
    assert starts_with_epoch(dataclasses.replace(trained.config, seed=9), trained, tmp_path) == 1
    assert starts_with_epoch(trained.config, trained, tmp_path) == 1
    checkpoint = tmp_path / "teacher.checkpoint.npz"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    assert starts_with_epoch(trained.config, trained, tmp_path) == 1


def test_what_was_made_from_the_same_is_reused(trained: Trained, tmp_path: Path) -> None:
    folder = trained.copy(tmp_path / "out")
    teacher = train_teacher(trained.config, trained.data, folder)
    assert teacher == dataclasses.replace(trained.teacher, path=teacher.path, reused=True)
    student = train_student(trained.config, trained.data, teacher.path, folder)
    assert student == dataclasses.replace(trained.student, path=student.path, reused=True)
    assert isinstance(student.history[0], Epoch)


def test_what_was_made_from_something_else_is_not_reused(trained: Trained, tmp_path: Path) -> None:
    assert starts_with_epoch(trained.config, trained, trained.copy(tmp_path / "a")) == 0
    assert starts_with_epoch(trained.config, trained, trained.copy(tmp_path / "b"), fresh=True) == 1
    replaced = trained.copy(tmp_path / "c")
    (replaced / "teacher.keras").write_bytes(b"something else")
    assert starts_with_epoch(trained.config, trained, replaced) == 1
    (tmp_path / "d").mkdir()
    changed = write_recipe(tmp_path / "d", models=MODELS + "\n# changed\n")
    assert starts_with_epoch(changed, trained, trained.copy(tmp_path / "e")) == 1


def test_ctrl_c_while_writing_leaves_the_former_files_whole(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained.copy(tmp_path / "out")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeflow.artifacts.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_teacher(trained.config, trained.data, folder, fresh=True)
    assert names(folder) == DONE
    assert (folder / "teacher.keras").read_bytes() == trained.teacher.path.read_bytes()


def test_without_a_teacher_the_labels_alone_are_learned(trained: Trained, tmp_path: Path) -> None:
    config = dataclasses.replace(trained.config, teacher=None, distill=None, prune=None)
    student = train_student(config, trained.data, None, tmp_path)
    assert student.sparsity == 0
    assert names(tmp_path) == ["student.json", "student.keras"]
    with pytest.raises(EdgeflowError) as caught:
        train_teacher(config, trained.data, tmp_path)
    assert str(caught.value) == f"{config.path}: the recipe has no [teacher]\n  fix: add a [teacher] table"


def test_a_loss_that_diverges_is_said(trained: Trained, tmp_path: Path) -> None:
    config = dataclasses.replace(trained.config, distill=Distill(soft=0.0, hard=1e39))
    with pytest.raises(EdgeflowError) as caught:
        train_student(config, trained.data, trained.teacher.path, tmp_path)
    assert str(caught.value) == (
        "the student's loss is no longer a number in epoch 1\n  fix: lower learning_rate in [student]"
    )
    assert names(tmp_path) == []


def test_a_teachers_file_must_hold_the_teachers_weights(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(EdgeflowError) as caught:
        train_student(trained.config, trained.data, trained.student.path, tmp_path)
    assert str(caught.value).startswith(f"{trained.student.path}: does not hold the weights of [teacher]'s model: ")
    assert str(caught.value).endswith("\n  fix: train the teacher again")


def test_a_pruned_layer_must_exist(trained: Trained, tmp_path: Path) -> None:
    config = write_recipe(tmp_path, ("layers = { logits = 0.25 }", "layers = { logit = 0.25 }"))
    with pytest.raises(EdgeflowError) as caught:
        train_student(dataclasses.replace(config, distill=None), trained.data, None, tmp_path)
    assert str(caught.value) == (
        f'{config.path}:29: [prune.layers] names "logit", which is no layer with a kernel; did you mean "logits"?\n'
        "  fix: layers with a kernel: conv, logits"
    )


def test_distillation_is_what_its_docstring_says() -> None:
    runtime = load_runtime()
    teacher, given = np.array([[1.0, 3.0, 0.0]]), np.array([[2.0, 0.5, -1.0]])
    loss = distillation(runtime, Distill(temperature=2.0, soft=0.25, hard=0.75))
    tensors = [runtime.tf.constant(array, "float32") for array in (given, teacher)]
    value = float(loss(runtime.tf.constant([1]), *tensors))

    def softmax(logits: np.ndarray) -> np.ndarray:
        return np.exp(logits) / np.exp(logits).sum()

    p, q = softmax(teacher / 2), softmax(given / 2)
    expected = 0.25 * 4 * float((p * np.log(p / q)).sum()) - 0.75 * float(np.log(softmax(given)[0, 1]))
    assert value == pytest.approx(expected, rel=1e-6)


def test_blends_stay_nearer_to_the_sample_that_gives_the_label() -> None:
    inputs, labels = np.eye(4, dtype=np.float32), np.arange(4)
    blended, kinds = with_blends(inputs, labels, 2, seed=1)
    assert (blended.shape, blended.dtype, kinds.tolist()) == ((12, 4), np.float32, [0, 1, 2, 3] * 3)
    assert np.array_equal(blended[:4], inputs)
    assert np.argmax(blended, axis=1).tolist() == kinds.tolist()
    assert blended.sum(axis=1) == pytest.approx(np.ones(12))
    assert np.array_equal(blended, with_blends(inputs, labels, 2, seed=1)[0])
    assert not np.array_equal(blended, with_blends(inputs, labels, 2, seed=2)[0])


def test_a_saved_model_carries_no_date(trained: Trained) -> None:
    with zipfile.ZipFile(trained.teacher.path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("metadata.json"))["date_saved"] == "1980-01-01@00:00:00"


def test_silent_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent("teacher", 1, 2, "accuracy", 0.5)
    assert capsys.readouterr() == ("", "")
