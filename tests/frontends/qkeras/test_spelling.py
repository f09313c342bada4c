"""Quantizers as text and as objects: one form, with the constructor's own defaults; nothing is evaluated."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.spelling import CONSTRUCTORS, quantizer_entry


def entry(data: object) -> tuple[str, dict[str, object]]:
    """The name, and only those arguments that are not the constructor's defaults."""
    name, config = quantizer_entry(data, "layer 'a'")
    defaults = CONSTRUCTORS.get(name, {})
    assert set(config) >= set(defaults)
    return name, {key: value for key, value in config.items() if key not in defaults or value != defaults[key]}


@pytest.mark.parametrize(
    ("data", "name", "config"),
    [
        (
            "quantized_bits(4, 2, 1, alpha='auto_po2')",
            "quantized_bits",
            {"bits": 4, "integer": 2, "symmetric": 1, "alpha": "auto_po2"},
        ),
        ("quantized_relu(6,2)", "quantized_relu", {"bits": 6, "integer": 2}),
        ("quantized_relu(3, negative_slope=0.125)", "quantized_relu", {"bits": 3, "negative_slope": 0.125}),
        (" quantized_bits ( 5 , alpha = 1.0 ) ", "quantized_bits", {"bits": 5, "alpha": 1.0}),
        (
            "quantized_bits(bits=6, integer=-1, keep_negative=False)",
            "quantized_bits",
            {"bits": 6, "integer": -1, "keep_negative": False},
        ),
        ('binary(False, "auto", True)', "binary", {"alpha": "auto", "use_stochastic_rounding": True}),
        ("ternary()", "ternary", {}),
        ("ternary", "ternary", {}),
        ("quantized_po2(4, 1e-1)", "quantized_po2", {"bits": 4, "max_value": 0.1}),
        ("quantized_tanh(4, symmetric=True)", "quantized_tanh", {"bits": 4, "symmetric": True}),
        ("quantized_hswish(8, relu_shift=2)", "quantized_hswish", {"relu_shift": 2}),
        ("softmax", "softmax", {}),
        ("hard_tanh", "hard_tanh", {}),
        ("something(3, a=None)", "something", {"0": 3, "a": None}),
        ({"class_name": "quantized_bits", "config": {"bits": 3}}, "quantized_bits", {"bits": 3}),
        (
            {"class_name": "qkeras>quantized_relu", "config": {"bits": 3}, "__passive_serialization__": True},
            "quantized_relu",
            {"bits": 3},
        ),
        (
            {"module": "qkeras.quantizers", "class_name": "ternary", "config": {}, "registered_name": "qkeras>ternary"},
            "ternary",
            {},
        ),
        ({"class_name": "binary", "config": None}, "binary", {}),
        ({"class_name": "function", "config": "relu", "module": "builtins"}, "relu", {}),
        ({"class_name": "mine", "config": {"x": [1]}}, "mine", {"x": [1]}),
    ],
)
def test_spellings(data: object, name: str, config: Mapping[str, object]) -> None:
    assert entry(data) == (name, config)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quantized_bits(",
        "quantized_bits(4))",
        "quantized_bits(4, 0, 1, True, 1, False, None, 1.0, None, True, False, None, None, None, None, 7)",
        "quantized_bits(bits=4, 2)",
        "quantized_bits(4, bits=4)",
        "quantized_bits(4, colour=2)",
        "quantized_bits(1 + 1)",
        "quantized_bits(4,)",
        "quantized_bits(__import__('os').system('true'))",
        "__import__('os').system('true')",
        "quantized_bits(alpha='a'b')",
        "quantized_bits(alpha=inf)",
        "quantized_bits(4)\nquantized_bits(4)",
        "quantized_bits(" + "0, " * 200 + "1)",
        "größe(4)",
    ],
)
def test_text_that_cannot_be_read(text: str) -> None:
    with pytest.raises(Unsupported) as caught:
        quantizer_entry(text, "layer 'a'")
    assert "cannot be read" in caught.value.what
    assert caught.value.fix == 'write it as in "quantized_bits(8, 2, alpha=1)"'
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (3, "layer 'a': damaged or not a Keras model: a quantizer is 3, not an object"),
        (
            {"config": {}},
            "layer 'a': its class_name is None, not text\n"
            "  fix: correct the layer, or save the model again if the file is damaged",
        ),
        (
            {"class_name": "binary", "config": [1]},
            "layer 'a': damaged or not a Keras model: a quantizer's config is a list, not an object",
        ),
    ],
)
def test_what_is_no_quantizer(data: object, text: str) -> None:
    with pytest.raises(EdgeflowError) as caught:
        quantizer_entry(data, "layer 'a'")
    assert str(caught.value) == text


@given(st.text(max_size=60) | st.from_regex(r"[a-z_]{1,12}\([^()]{0,40}\)", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        name, config = quantizer_entry(text, "x")
    except Unsupported:
        return
    assert name.isidentifier()
    assert all(value is None or isinstance(value, (bool, int, float, str)) for value in config.values())


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-99, 99)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.just("auto")
)


@given(st.sampled_from(sorted(CONSTRUCTORS)), st.data())
def test_written_arguments_come_back(name: str, data: st.DataObject) -> None:
    keys = list(CONSTRUCTORS[name])
    first = data.draw(st.integers(0, len(keys)))
    rest = data.draw(st.lists(st.sampled_from(keys[first:]), unique=True) if keys[first:] else st.just([]))
    values = {key: data.draw(VALUES) for key in [*keys[:first], *rest]}
    arguments = [repr(values[key]) for key in keys[:first]] + [f"{key}={values[key]!r}" for key in rest]
    text = f"{name}({', '.join(arguments)})"
    if len(text) <= 400:
        assert quantizer_entry(text, "x") == (name, {**CONSTRUCTORS[name], **values})


def test_constructors_are_those_of_qkeras() -> None:
    """The same names and defaults; order as far as QKeras 0.9 and qkeras-v3 agree (all but `binary`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import qkeras.quantizers

    for name, ours in CONSTRUCTORS.items():
        signature: Any = inspect.signature(getattr(qkeras.quantizers, name).__init__)
        theirs = {key: one.default for key, one in list(signature.parameters.items())[1:]}
        assert theirs == {key: ours[key] for key in theirs}, name
        if name != "binary":
            assert list(theirs) == [key for key in ours if key in theirs], name
        assert set(ours) - set(theirs) <= {"use_ste"}, name
