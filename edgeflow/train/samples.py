"""Samples alone as vectors to verify a graph on, where nothing but the graph is asked for outputs."""

from __future__ import annotations

import numpy as np

from edgeflow.frontends.tflite.original import stored_type
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Affine
from edgeflow.semantics.labels import to_reals
from edgeflow.train.predict import fit_inputs
from edgeflow.vectors import InputData, Vectors


def sample_vectors(graph: Graph, given: InputData) -> Vectors:
    """Samples of a graph's inputs as vectors without outputs.

    Numbers are the real values; but an array of the type in which a `.tflite` file stores an input (int8, say) holds
    that input's integers. Raises EdgeflowError for samples that do not fit the inputs.
    """
    arrays = fit_inputs({one.name: (None, *one.type.shape) for one in graph.inputs}, given)
    for source in graph.inputs:
        stored = given.stored.get("" if given.only is not None else source.name)
        if isinstance(source.label, Affine) and stored is not None and stored == stored_type(source.type):
            integers = arrays[source.name].astype(np.int64)
            arrays[source.name] = to_reals(integers, source.label).astype(np.float32)
    return Vectors(arrays, {}, given.labels)
