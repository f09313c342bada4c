"""Random models of the linear operators, sums, pools and views: the imported graph gives TFLite-Micro's bytes."""

from __future__ import annotations

import pytest

from tests.frontends.tflite.generate import GENERATORS, models
from tests.frontends.tflite.wheel import assert_equal

QUICK, MANY = 6, 60
"""Models an operator."""


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("code", GENERATORS)
def test_an_operator_gives_the_bytes_of_tflite_micro(code: str) -> None:
    assert_equal(models(code, QUICK), samples=12)


@pytest.mark.slow
@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("code", GENERATORS)
def test_many_of_an_operator_give_the_bytes_of_tflite_micro(code: str) -> None:
    assert_equal(models(code, MANY, first=1000), samples=60)
