"""The ways in which files spell a quantizer, as one: its class name and all of its constructor's arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.fields import Fields, as_object, shown

_LONGEST = 400
_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\(([^()]*)\)\s*)?", re.ASCII)
_ARGUMENT = re.compile(r"\s*(?:([A-Za-z_]\w*)\s*=)?\s*(\S.*?)\s*", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_QUOTED = re.compile(r"'[^'\"]*'|\"[^'\"]*\"")
_WORDS: Mapping[str, object] = {"True": True, "False": False, "None": None}
_FIX = 'write it as in "quantized_bits(8, 2, alpha=1)"'

_STE: Mapping[str, object] = {"qnoise_factor": 1.0, "var_name": None, "use_ste": True, "use_variables": False}
_LIMITS: Mapping[str, object] = {"elements_per_scale": None, "min_po2_exponent": None, "max_po2_exponent": None}
_BITS: Mapping[str, object] = {"bits": 8, "integer": 0, "symmetric": 0}
_PO2: Mapping[str, object] = {
    "use_stochastic_rounding": False,
    "quadratic_approximation": False,
    "log2_rounding": "rnd",
    **_STE,
}

CONSTRUCTORS: Mapping[str, Mapping[str, object]] = {
    "bernoulli": {"alpha": None, "temperature": 6.0, "use_real_sigmoid": True},
    "binary": {
        "use_01": False,
        "alpha": None,
        "use_stochastic_rounding": False,
        "training": False,
        "scale_axis": None,
        **_LIMITS,
    },
    "quantized_bits": {
        **_BITS,
        "keep_negative": True,
        "alpha": None,
        "use_stochastic_rounding": False,
        "scale_axis": None,
        **_STE,
        **_LIMITS,
        "post_training_scale": None,
    },
    "quantized_hswish": {
        **_BITS,
        "alpha": None,
        "use_stochastic_rounding": False,
        "scale_axis": None,
        **_STE,
        "relu_shift": 3,
        "relu_upper_bound": 6,
    },
    "quantized_linear": {
        **_BITS,
        "symmetric": 1,
        "keep_negative": True,
        "alpha": None,
        "use_stochastic_rounding": False,
        "scale_axis": None,
        "qnoise_factor": 1.0,
        "var_name": None,
        "use_variables": False,
    },
    "quantized_po2": {"bits": 8, "max_value": None, **_PO2},
    "quantized_relu": {
        "bits": 8,
        "integer": 0,
        "use_sigmoid": 0,
        "negative_slope": 0.0,
        "use_stochastic_rounding": False,
        "relu_upper_bound": None,
        "is_quantized_clip": True,
        **_STE,
    },
    "quantized_relu_po2": {"bits": 8, "max_value": None, "negative_slope": 0, **_PO2},
    "quantized_sigmoid": {"bits": 8, "symmetric": False, "use_real_sigmoid": False, "use_stochastic_rounding": False},
    "quantized_tanh": {"bits": 8, "use_stochastic_rounding": False, "symmetric": False, "use_real_tanh": False},
    "quantized_ulaw": {**_BITS, "u": 255.0},
    "stochastic_binary": {"alpha": None, "temperature": 6.0, "use_real_sigmoid": True},
    "stochastic_ternary": {
        "alpha": None,
        "threshold": None,
        "temperature": 8.0,
        "use_real_sigmoid": True,
        "number_of_unrolls": 5,
    },
    "ternary": {"alpha": None, "threshold": None, "use_stochastic_rounding": False, "number_of_unrolls": 5},
}
"""Each quantizer's constructor arguments in positional order, with their defaults: QKeras 0.9.0, then what
qkeras-v3 1.2.1 added. Only 0.9 stores text, so its order counts (`binary`'s third differs between the two)."""


def quantizer_entry(data: object, where: str) -> tuple[str, Mapping[str, object]]:
    """A quantizer's class name and arguments, however a file spells it; `where` names the layer in errors.

    Takes text as QKeras 0.9 stores it ("quantized_relu(6, 2)", "softmax") and the object forms of all versions
    (`class_name`, perhaps "qkeras>" in front, and `config`; a Keras function has its name as `config`). Arguments
    that the file leaves out are the constructor's defaults, for the quantizers in CONSTRUCTORS. Nothing is evaluated.
    Raises EdgeflowError for what is no quantizer, Unsupported for text that cannot be read.
    """
    if isinstance(data, str):
        return _from_text(data, where)
    entry = Fields(as_object(data, where, "a quantizer"), where)
    name = entry.text("class_name").rpartition(">")[2]
    config = entry.raw("config")
    if name == "function" and isinstance(config, str):
        return _from_text(config, where)
    given = as_object({} if config is None else config, where, "a quantizer's config")
    return name, {**CONSTRUCTORS.get(name, {}), **given}


def _from_text(text: str, where: str) -> tuple[str, Mapping[str, object]]:
    """QKeras' own grammar (`safe_eval`): name(value, ..., key=value, ...), values without commas or brackets."""
    call = _CALL.fullmatch(text) if len(text) <= _LONGEST else None
    if call is None:
        raise _unreadable(text, where)
    name = cast(str, call[1])
    order = tuple(CONSTRUCTORS.get(name, {}))
    given: dict[str, object] = {}
    keyed = False
    for number, part in enumerate((call[2] or "").split(",") if (call[2] or "").strip() else ()):
        argument = _ARGUMENT.fullmatch(part)
        if argument is None:
            raise _unreadable(text, where)
        key = cast(str | None, argument[1])
        if key is None and (keyed or (order and number >= len(order))):
            raise _unreadable(text, where)
        keyed = key is not None
        key = key or (order[number] if order else str(number))
        if key in given or (order and key not in order):
            raise _unreadable(text, where)
        given[key] = _value(argument[2], text, where)
    return name, {**CONSTRUCTORS.get(name, {}), **given}


def _value(text: str, whole: str, where: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        return float(text) if set(text) & set(".eE") else int(text)
    if _QUOTED.fullmatch(text):
        return text[1:-1]
    raise _unreadable(whole, where)


def _unreadable(text: str, where: str) -> Unsupported:
    return Unsupported(f"quantizer '{shown(text)}' cannot be read", where=where, fix=_FIX)
