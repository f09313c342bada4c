"""A look inside a model: what each layer holds and costs, and how its Keras numbers became integers."""

from __future__ import annotations

from edgeflow.report.inspect.explain import Explanation, explain_layer
from edgeflow.report.inspect.inspection import Inspection, Port, Row, Totals, inspect_graph
from edgeflow.report.inspect.stored import read_layers

__all__ = ["Explanation", "Inspection", "Port", "Row", "Totals", "explain_layer", "inspect_graph", "read_layers"]
