"""hls4ml: a Vitis HLS project from the integer graph, and its C simulation."""
