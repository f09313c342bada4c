"""The two models of this example: a float teacher, and the small student that goes to the board."""

import keras
from keras import layers


def teacher(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """A convolutional network with 62,250 weights, kept from overfitting by dropout."""
    return keras.Sequential(
        [
            keras.Input(input_shape, name="image"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(classes),
        ],
        name="teacher",
    )


def student(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Four layers with weights, in float here: [quantize] in edgeflow.toml gives each its widths by name."""
    return keras.Sequential(
        [
            keras.Input(input_shape, name="image"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(48, activation="relu", name="dense"),
            layers.Dense(classes, name="logits"),
        ],
        name="digits",
    )
