"""The child that runs hls4ml: a script, `python -I child.py FOLDER < layers.npz`, never imported by edgeflow.

hls4ml writes files, prints, keeps global state and imports Keras if it can, so it happens here, under the caller's
limits. Reads an npz: `plan` (UTF-8 JSON: `config`, `inputs`, `outputs`, `layers`) and the arrays that the layers
name; writes the project into FOLDER and, to standard output, JSON that says how its ports are called in C++.
On failure the exit code is 3 and the last line of standard error is the reason.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from typing import Any, cast

import numpy as np

FAILED = 3


def convert(folder: str, content: bytes) -> dict[str, Any]:
    """Makes the project; gives its input and output variables. Raises whatever hls4ml raises."""
    sys.modules["keras"] = cast(Any, None)  # hls4ml's writer imports it only to save Keras models
    from hls4ml.model import ModelGraph

    _keep_multiplications()
    _keep_formats()
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        plan = json.loads(archive["plan"].tobytes())
        layers = [_layer(one, archive) for one in plan["layers"]]
    config = {**plan["config"], "OutputDir": folder}
    model = cast(Any, ModelGraph).from_layer_list(config, layers, inputs=plan["inputs"], outputs=plan["outputs"])
    model.apply_flow(model.config.backend.get_writer_flow())
    return {
        "inputs": [_variable(one) for one in model.get_input_variables()],
        "outputs": [_variable(one) for one in model.get_output_variables()],
        "precisions": {one.name: str(one.get_output_variable().type.precision) for one in model.get_layers()},
    }


def _keep_multiplications() -> None:
    """Switches off what folds or drops constant multiplications.

    hls4ml would fold one into a layer whose own result is an output too, or drop one by 1 between two roundings.
    """
    from hls4ml.model.optimizer.passes import batchnorm_opt, bn_fuse

    def never(self: object, node: object) -> bool:
        return False

    bn_fuse.FuseBatchNormalization.match = never
    batchnorm_opt.FuseConsecutiveBatchNormalization.match = never
    batchnorm_opt.RemoveNopBatchNormalization.match = never


def _keep_formats() -> None:
    """Has quantizers keep the format that they were given.

    hls4ml 1.3.0 narrows it to the widest element and the element of most integer bits, taken apart: where these are
    not the same element, or one is always zero, bits go missing.
    """
    from hls4ml.model.optimizer.passes import bit_exact

    quantizer, rules = bit_exact.FixedPointQuantizer, vars(bit_exact)["_produce_kif"]
    narrow = rules.dispatch(quantizer)

    def keep(layer: Any) -> Any:
        given = layer.mask_kbi
        found = narrow(layer)
        layer.mask_kbi = given
        return found

    rules.register(quantizer, keep)


def _variable(one: Any) -> dict[str, Any]:
    return {
        "name": one.name,
        "type": one.type.name,
        "size": math.prod(int(axis) for axis in one.shape),
        "stream": one.definition_cpp().startswith("hls::stream"),
        "precision": str(one.type.precision),
    }


def _layer(plan: dict[str, Any], archive: Any) -> dict[str, Any]:
    layer = {"class_name": plan["kind"], "name": plan["name"], **plan["fields"]}
    if plan["inputs"]:
        layer["inputs"] = plan["inputs"]
    for name, index in plan["arrays"].items():
        values, exponent = archive[f"v{index}"], archive[f"e{index}"]
        layer[f"{name}_data"] = np.ldexp(values.astype(np.float64), -exponent.astype(np.int32))
    if plan["quantizer"]:
        signed, bits, integer, rounding, saturation = plan["quantizer"]
        shape = (1,) * (1 + len(plan["shape"]))
        masks = tuple(np.full(shape, one, dtype=np.int16) for one in (signed, bits, integer))
        layer |= {"mask_kbi": masks, "RND": rounding, "SAT": saturation, "overrides": {}, "fusible": True}
    return layer


def main(folder: str) -> int:
    """Converts one plan; returns the exit code."""
    content = sys.stdin.buffer.read()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found = convert(folder, content)
    except ImportError as error:
        reason = f"missing: {error}"
    except Exception as error:  # noqa: BLE001 - hls4ml raises Exception itself
        reason = f"{type(error).__name__}: {error}"
    else:
        sys.stdout.write(json.dumps(found))
        return 0
    sys.stderr.write(" ".join(reason.split())[:300] + "\n")
    return FAILED


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
