"""The digits example keeps what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.train.data import load_data
from edgeflow.train.recipe import load_config
from edgeflow.train.student import train_student
from edgeflow.train.teacher import train_teacher


@pytest.mark.slow
@pytest.mark.xdist_group("keras")
def test_a_small_student_stays_close_to_its_teacher(root: Path, tmp_path: Path) -> None:
    config = load_config(root / "examples" / "digits" / "edgeflow.toml")
    data = load_data(config)
    teacher = train_teacher(config, data, tmp_path)
    student = train_student(config, data, teacher.path, tmp_path)
    assert teacher.accuracy >= 0.97
    assert student.accuracy >= teacher.accuracy - 0.015
    assert teacher.weight_bits >= 20 * student.weight_bits
    assert (student.weight_bits, student.sparsity) == (86_032, 0.5)
    assert [(one.name, one.weights, one.zeros) for one in student.layers] == [
        ("conv1", 288, 144),
        ("conv2", 9216, 4608),
        ("dense", 6144, 3072),
        ("logits", 480, 240),
    ]
