"""edgeflow: one trained model, every board, the same integers."""

__version__ = "0.1.0"
