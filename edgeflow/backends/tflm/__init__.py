"""The backend `tflm`: an int8 TFLite flatbuffer for TensorFlow Lite Micro."""
