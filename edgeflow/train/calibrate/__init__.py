"""Float Keras models to exact integer graphs by calibration: no training, and no TensorFlow.

read -> simplify (batch normalization folded) -> equalize -> observe (ranges) -> grids -> lower (integers, bias
correction) -> measure.
"""

from __future__ import annotations

from edgeflow.train.calibrate.options import Options
from edgeflow.train.calibrate.run import RECORD, VECTORS, Quantized, quantize_model, record, write_quantized

__all__ = ["RECORD", "VECTORS", "Options", "Quantized", "quantize_model", "record", "write_quantized"]
