"""Data sets by name, from a file and from the user's function; and the user's own code in general."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.train.data import load_data

from .conftest import WriteRecipe

NPZ_FIX = "make it with numpy.savez(file, x_train=..., y_train=..., x_test=..., y_test=...)"


def test_digits_are_exact_sixteenths_with_360_held_out(recipe: WriteRecipe) -> None:
    data = load_data(recipe(('"data.npz"', '"digits"')))
    assert (data.x_train.shape, data.x_test.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert (data.x_train.dtype, data.y_train.dtype) == (np.float32, np.int64)
    assert (data.shape, data.classes) == ((8, 8, 1), 10)
    assert np.bincount(data.y_test).tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    codes = np.concatenate([data.x_train, data.x_test]) * 16
    assert np.array_equal(codes, np.rint(codes))
    assert (codes.min(), codes.max()) == (0, 16)
    assert data.digest == load_data(recipe(('"data.npz"', '"digits"'))).digest


def test_a_function_may_return_a_dict_or_four_arrays(recipe: WriteRecipe, tmp_path: Path) -> None:
    config = recipe(('"data.npz"', '"own.py:load"'))
    for returned in ("(x, y, x, y)", "dict(x_train=x, y_train=y, x_test=x, y_test=y)"):
        (tmp_path / "own.py").write_text(
            f"import numpy as np\ndef load():\n    x, y = np.eye(3), np.arange(3)\n    return {returned}\n"
        )
        data = load_data(config)
        assert (data.shape, data.classes, data.x_test.dtype) == ((3,), 3, np.float32)
    assert not (tmp_path / "__pycache__").exists()


def arrays(**changes: object) -> dict[str, object]:
    x, y = np.zeros((4, 2, 2)), np.arange(4)
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y} | changes


BAD_ARRAYS = {
    "missing": (
        {"x_trian": np.zeros((4, 2)), "y_train": np.arange(4)},
        'the data has no "x_train"; did you mean "x_trian"?\n  fix: give x_train, y_train, x_test, y_test',
    ),
    "one-hot": (
        arrays(y_train=np.eye(4)),
        "y_train is float64 of shape (4, 4); labels are integers from 0 of shape (4,)\n"
        "  fix: give one class number a sample, not one-hot rows",
    ),
    "not finite": (
        arrays(x_test=np.full((4, 2, 2), np.nan)),
        "x_test holds NaN or infinite values\n  fix: remove or replace them",
    ),
    "empty": (
        arrays(x_train=np.zeros((0, 2, 2))),
        "x_train is float64 of shape (0, 2, 2); samples are numbers of shape (n, ...), n at least 1\n"
        "  fix: put the samples along the first axis",
    ),
    "two shapes": (
        arrays(x_test=np.zeros((4, 3))),
        "a sample of x_train has shape (2, 2), one of x_test (3,)\n  fix: give both the same shape",
    ),
}


@pytest.mark.parametrize(("content", "expected"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_arrays_that_do_not_fit(
    content: dict[str, np.ndarray], expected: str, recipe: WriteRecipe, tmp_path: Path
) -> None:
    config = recipe()
    np.savez(tmp_path / "data.npz", allow_pickle=False, **content)
    with pytest.raises(EdgeflowError) as caught:
        load_data(config)
    assert str(caught.value) == f"{tmp_path / 'data.npz'}: {expected}"


def test_files_that_are_no_data(recipe: WriteRecipe, tmp_path: Path) -> None:
    config, path = recipe(), tmp_path / "data.npz"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(EdgeflowError) as caught:
        load_data(config)
    assert str(caught.value).startswith(f"{path}: cannot be read as .npz data: ")
    assert str(caught.value).endswith(f"\n  fix: {NPZ_FIX}")
    path.unlink()
    with pytest.raises(EdgeflowError) as caught:
        load_data(config)
    assert str(caught.value) == f"{path}: no such data file\n  fix: check source in [data]"


USER_CODE = {
    "missing file": (
        None,
        '{toml}:5: no file "own.py" beside it\n  fix: write load() in {own}',
    ),
    "misspelt function": (
        "def laod(): pass\n",
        '{toml}:5: own.py has no function "load"; did you mean "laod"?\n'
        "  fix: define load, or correct the name after the colon",
    ),
    "syntax": (
        "def load():\n    return 1 +\n",
        "{own}:2: not valid Python: invalid syntax\n  fix: correct that line",
    ),
    "fails on import": (
        "import nothing_of_this_name\n",
        "{own}:1: the file raised ModuleNotFoundError: No module named 'nothing_of_this_name'\n"
        "  fix: this is your own code: correct it there",
    ),
    "fails when called": (
        "def helper():\n    return {}['x']\ndef load():\n    return helper()\n",
        "{own}:2: load() raised KeyError: 'x'\n  fix: this is your own code: correct it there",
    ),
    "returns nothing": (
        "def load():\n    pass\n",
        "own.py:load: returned NoneType, not the data\n"
        "  fix: return a dict with x_train, y_train, x_test, y_test, or a tuple of the four",
    ),
}


@pytest.mark.parametrize(("code", "expected"), USER_CODE.values(), ids=USER_CODE)
def test_faults_in_the_users_code_name_its_line(
    code: str | None, expected: str, recipe: WriteRecipe, tmp_path: Path
) -> None:
    config, own = recipe(('"data.npz"', '"own.py:load"')), tmp_path / "own.py"
    if code is not None:
        own.write_text(code)
    with pytest.raises(EdgeflowError) as caught:
        load_data(config)
    assert str(caught.value) == expected.format(toml=config.path, own=own)
