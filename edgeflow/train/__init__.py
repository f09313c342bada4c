"""From a float teacher to a small, pruned, quantized student file. TensorFlow loads only inside functions."""
