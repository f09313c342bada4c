"""Samples alone as vectors to verify a graph on, where nothing but the graph is asked for outputs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeflow.errors import EdgeflowError
from edgeflow.frontends.tflite.original import stored_type
from edgeflow.ir.graph import Graph, Input
from edgeflow.ir.types import Affine
from edgeflow.semantics.labels import to_reals
from edgeflow.train.predict import fit_inputs
from edgeflow.vectors import InputData, Vectors

_BEYOND = 0.1
"""How far outside of an input's range, in parts of it, a value is no longer one that calibration cut off a little."""


def sample_vectors(graph: Graph, given: InputData) -> Vectors:
    """Samples of a graph's inputs as vectors without outputs.

    Numbers are the real values; but an array of the type in which a `.tflite` file stores an input (int8, say) holds
    that input's integers. Raises EdgeflowError for samples that do not fit the inputs, or of which an input could not
    store more than half of the values.
    """
    arrays = fit_inputs({one.name: (None, *one.type.shape) for one in graph.inputs}, given)
    for source in graph.inputs:
        stored = given.stored.get("" if given.only is not None else source.name)
        if isinstance(source.label, Affine) and stored is not None and stored == stored_type(source.type):
            integers = arrays[source.name].astype(np.int64)
            arrays[source.name] = to_reals(integers, source.label).astype(np.float32)
        _reject_other_scale(source, arrays[source.name], given.where)
    return Vectors(arrays, {}, given.labels)


def _reject_other_scale(source: Input, values: npt.NDArray[np.float32], where: str) -> None:
    """Most values far outside of the range (images of 0 to 255 for an input of 0 to 1) would be clipped to its ends."""
    lo, hi = (to_reals(np.array(end), source.label) for end in (source.type.lo, source.type.hi))
    margin = _BEYOND * (hi - lo)
    share = float(np.mean((values < lo - margin) | (values > hi + margin)))
    if share <= 0.5:
        return
    fix = "scale the data as in training"
    stored = stored_type(source.type)
    if isinstance(source.label, Affine) and stored is not None:
        fix += f"; for the model's own integers, give them as {stored}"
    raise EdgeflowError(
        f'{share:.0%} of the values for input "{source.name}" lie far outside of what it stores,'
        f" {lo.min():.4g} to {hi.max():.4g}",
        where=where,
        fix=fix,
    )
