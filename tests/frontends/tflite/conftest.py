"""What the tests of the TFLite door share."""

from __future__ import annotations

import importlib.util
import os

import pytest


@pytest.fixture
def wheel() -> None:
    """Skips a test without the `tflite-micro` wheel, or fails it where CI=true."""
    if importlib.util.find_spec("tflite_micro") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("tflite-micro is not installed, and in CI every tool must be", pytrace=False)
        pytest.skip("tflite-micro is not installed")
