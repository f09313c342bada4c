"""Draws random QKeras models from a seed: every layer that edgeflow imports, branches, several inputs and outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.frontends.qkeras.against import act, bits, layers, q, relu

_SMALL = 9


class Zoo:
    """One model a seed. `real` lets in float scales, float biases and batch normalization."""

    def __init__(self, seed: int, *, real: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.real = real
        self.names = 0

    def pick(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def integer(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

    def chance(self, likely: float) -> bool:
        return bool(self.rng.random() < likely)

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}_{self.names}"

    # Quantizers

    def act(self) -> Any:
        """An activation quantizer: mostly the common ones."""
        import qkeras

        width = self.integer(2, 7)
        common = (
            lambda: relu(width, self.integer(0, 3)),
            lambda: bits(width, self.integer(-1, 3), self.integer(0, 1)),
        )
        rare = (
            lambda: bits(width, self.integer(0, 3), keep_negative=False, alpha=None),
            lambda: bits(width, 1, alpha=self.pick(0.5, 2.0, 4)),
            lambda: relu(width, self.integer(0, 2), negative_slope=0.25),
            lambda: qkeras.quantized_linear(width, self.integer(0, 2), alpha=1),
            lambda: qkeras.quantized_tanh(width),
            lambda: qkeras.quantized_sigmoid(width),
            lambda: qkeras.quantized_po2(self.integer(3, 4), 2),
            lambda: qkeras.quantized_relu_po2(self.integer(3, 4), 2),
            lambda: qkeras.binary(alpha=1),
            lambda: qkeras.ternary(alpha=1),
        )
        return self.pick(*(rare if self.chance(0.25) else common))()

    def kernel(self) -> Any:
        import qkeras

        width = self.integer(2, 5)
        common = (
            lambda: bits(width, self.integer(0, 1)),
            lambda: bits(width, 0, alpha=None),
            lambda: bits(width, self.integer(-1, 2), alpha="auto_po2"),
        )
        rare = (
            lambda: bits(width, 0, 1, alpha=self.pick(1.0, 0.25, 2)),
            lambda: bits(1, 0),
            lambda: bits(width, 0, keep_negative=False),
            lambda: qkeras.quantized_linear(width, self.integer(0, 1), alpha=self.pick(1, "auto_po2")),
            lambda: qkeras.quantized_po2(3, 1),
            lambda: qkeras.binary(alpha=self.pick(1, "auto_po2")),
            lambda: qkeras.ternary(alpha=self.pick(1, "auto_po2")),
            lambda: qkeras.stochastic_ternary(alpha=1),
        )
        if self.real and self.chance(0.3):
            return bits(width, 0, alpha=float(np.float32(self.rng.uniform(0.2, 2))))
        return self.pick(*(rare if self.chance(0.3) else common))()

    def bias(self) -> Any:
        if self.real and self.chance(0.3):
            return None
        width = self.integer(2, 8)
        return self.pick(bits(width, self.integer(0, 3)), bits(width, self.integer(0, 3)), bits(5, 1, alpha="auto_po2"))

    def layer(self, kind: str, *args: Any, plain: bool = False, **settings: Any) -> Any:
        """A linear layer with drawn quantizers; half of them have an activation of their own."""
        roles = {
            "QDepthwiseConv2D": ("depthwise",),
            "QDepthwiseConv2DBatchnorm": ("depthwise",),
            "QSeparableConv1D": ("depthwise", "pointwise"),
            "QSeparableConv2D": ("depthwise", "pointwise"),
        }.get(kind, ("kernel",))
        drawn: dict[str, Any] = {f"{role}_quantizer": self.kernel() for role in roles}
        if len(roles) == 2:
            drawn = {key: bits(3, 0, alpha=self.pick(1, "auto_po2")) for key in drawn}
        drawn |= {"bias_quantizer": self.bias(), "use_bias": self.chance(0.85)}
        drawn["activation"] = None if plain or self.chance(0.4) else self.act()
        return q(kind, *args, name=self.name(kind.lower()), **{**drawn, **settings})

    # Steps: each reads a quantized tensor and gives one that the next `settled` quantizes again

    def settled(self, x: Any) -> Any:
        return act(self.act(), self.name("act"))(x)

    def window(self, x: Any, most: int = 3) -> dict[str, Any]:
        """Kernel size, stride, padding and dilation that fit."""
        rank = len(x.shape) - 2
        padding = self.pick("same", "valid")
        spatial = [int(axis) for axis in x.shape[1:-1]]
        size = tuple(self.integer(1, min(most, axis) if padding == "valid" else most) for axis in spatial)
        strides = self.integer(1, 2)
        dilation = 2 if strides == 1 and padding == "same" and self.chance(0.2) else 1
        return {
            "kernel_size": size if rank > 1 else size[0],
            "strides": strides,
            "padding": padding,
            "dilation_rate": dilation,
        }

    def convolution(self, x: Any) -> Any:
        if len(x.shape) == 3:
            kind = self.pick("QConv1D", "QConv1D", "QSeparableConv1D")
            return self.layer(kind, self.integer(1, 4), **self.window(x))(x)
        kind = self.pick(
            "QConv2D",
            "QConv2D",
            "QDepthwiseConv2D",
            "QSeparableConv2D",
            "QConv2DTranspose",
            "QConv2DBatchnorm",
            "QDepthwiseConv2DBatchnorm",
        )
        window = self.window(x)
        if kind.startswith("QDepthwise"):
            return self.layer(kind, depth_multiplier=self.integer(1, 2), **window)(x)
        if kind == "QConv2DTranspose":
            window |= {"dilation_rate": 1, "strides": self.pick(1, 2, (1, 2), (2, 3))}
        return self.layer(kind, self.integer(1, 4), **window)(x)

    def alike(self, x: Any) -> Any:
        """Another branch of the same shape."""
        filters = int(x.shape[-1])
        if len(x.shape) == 2:
            return self.layer("QDense", filters)(x)
        kind = "QConv1D" if len(x.shape) == 3 else "QConv2D"
        return self.layer(kind, filters, kernel_size=self.integer(1, 3), padding="same")(x)

    def join(self, x: Any) -> Any:
        kind = self.pick("Add", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
        count = 2 if kind in ("Subtract", "Average", "Multiply") else self.integer(2, 3)
        branches = [self.settled(self.alike(x)) for _ in range(count)]
        settings: dict[str, Any] = {}
        if kind == "Concatenate":
            settings["axis"] = self.pick(-1, self.integer(1, len(x.shape) - 1))
        elif kind in ("Multiply", "Add") and len(x.shape) == 4 and self.chance(0.4):
            branches[1] = layers().GlobalMaxPooling2D(keepdims=self.pick(True, False))(branches[1])
        return getattr(layers(), kind)(name=self.name(kind.lower()), **settings)(branches)

    def pool(self, x: Any) -> Any:
        rank = len(x.shape) - 2
        window = self.window(x)
        settings = {
            "pool_size": window["kernel_size"],
            "strides": self.pick(None, window["strides"]),
            "padding": window["padding"],
        }
        if self.chance(0.5):
            return getattr(layers(), f"MaxPooling{rank}D")(name=self.name("max"), **settings)(x)
        if rank == 2 and self.chance(0.4):
            settings["padding"] = "valid" if settings["padding"] == "valid" or window["kernel_size"][0] > 3 else "same"
            quantizer = self.pick(None, bits(self.integer(4, 7), 0))
            pooled = q("QAveragePooling2D", average_quantizer=quantizer, name=self.name("qavg"), **settings)(x)
        else:
            pooled = getattr(layers(), f"AveragePooling{rank}D")(name=self.name("avg"), **settings)(x)
        return act(self.pooled_act(), self.name("act"))(pooled)

    def pooled_act(self) -> Any:
        """Wide enough that float32's straight-through form holds behind a division."""
        return self.pick(relu(self.integer(2, 8), self.integer(0, 4)), bits(self.integer(6, 10), 6))

    def move(self, x: Any) -> Any:
        rank, shape = len(x.shape) - 2, [int(axis) for axis in x.shape[1:]]
        ends = [(self.integer(0, 2), self.integer(0, 1)) for _ in range(rank)]
        cuts = [(1, 0) if axis > 3 else (0, 0) for axis in shape[:-1]]
        order = tuple(int(one) for one in 1 + self.rng.permutation(rank + 1))
        factors = tuple(2 if axis < 5 else 1 for axis in shape[:-1])
        return self.pick(
            lambda: getattr(layers(), f"ZeroPadding{rank}D")(ends if rank > 1 else ends[0]),
            lambda: getattr(layers(), f"Cropping{rank}D")(cuts if rank > 1 else cuts[0]),
            lambda: getattr(layers(), f"UpSampling{rank}D")(factors if rank > 1 else factors[0]),
            lambda: layers().Permute(order),
            lambda: layers().Reshape((-1, shape[-1] * shape[-2])),
            lambda: layers().Dropout(0.3),
        )()(x)

    def scale(self, x: Any) -> Any:
        return q("QScaleShift", name=self.name("scale"), use_bias=self.chance(0.7))(x)

    def normalize(self, x: Any) -> Any:
        linear = self.layer("QDense", self.integer(1, 4), plain=True)(x)
        normal = layers().BatchNormalization(name=self.name("bn"), scale=self.pick(True, False))(linear)
        return self.pick(normal, layers().ReLU(name=self.name("relu"))(normal))

    def step(self, x: Any) -> Any:
        flat = len(x.shape) == 2
        options = [self.convolution] * 3 + [self.join] * 2 + [self.pool, self.pool, self.move, self.move, self.scale]
        if flat:
            options = [lambda one: self.layer("QDense", self.integer(1, 5))(one), self.join, self.scale]
        if self.real:
            options.append(self.normalize)
        return self.pick(*options)(self.settled(x))

    def flatten(self, x: Any) -> Any:
        if len(x.shape) == 2:
            return x
        rank = len(x.shape) - 2
        return self.pick(
            lambda: layers().Flatten(name=self.name("flat"))(x),
            lambda: layers().Reshape((-1,), name=self.name("flat"))(x),
            lambda: act(self.pooled_act(), self.name("act"))(
                getattr(layers(), f"GlobalAveragePooling{rank}D")(name=self.name("gap"))(self.settled(x))
            ),
            lambda: getattr(layers(), f"GlobalMaxPooling{rank}D")(name=self.name("gmp"))(x),
        )()

    def source(self, name: str) -> tuple[Any, Any]:
        import keras

        image = (self.integer(4, 7), self.integer(4, 7), self.integer(1, 3))
        shape = self.pick(
            image,
            image,
            (self.integer(4, _SMALL), self.integer(1, 3)),
            (self.integer(4, 12),),
        )
        source = keras.Input(shape, name=name)
        first = self.pick(bits(self.integer(2, 7), self.integer(0, 2)), relu(6, 1))
        return source, act(first, f"{name}_first")(source)

    def model(self) -> Any:
        import keras

        sources: list[Any] = []
        outputs: list[Any] = []
        ends: list[Any] = []
        for name in ("left", "right")[: self.pick(1, 1, 2)]:
            source, x = self.source(name)
            sources.append(source)
            for _ in range(self.integer(1, 3)):
                x = self.step(x)
                if max(int(axis) for axis in x.shape[1:]) > 40:
                    break
                if self.chance(0.15):
                    outputs.append(act(self.act(), self.name("act"))(x))
            ends.append(self.flatten(self.settled(x)))
        x = layers().Concatenate(name="ends")(ends) if len(ends) > 1 else ends[0]
        outputs.append(self.layer(self.pick("QDense", "QDense", "QDenseBatchnorm"), 4)(self.settled(x)))
        if self.real:
            outputs[-1] = act(bits(6, 2), "last")(outputs[-1])
        model = keras.Model(sources, outputs, name="zoo")
        self.fill(model)
        return model

    def fill(self, model: Any) -> None:
        """Weights with saturation, exact ties, zero channels; positive variances."""
        for layer in model.layers:
            for one in layer.weights:
                if not tuple(one.shape):
                    continue
                values = self.rng.normal(0, float(self.pick(0.1, 0.4, 1.5)), one.shape).astype(np.float32)
                if self.chance(0.3) and "batchnorm" not in type(layer).__name__.lower():
                    values = np.rint(values * 64).astype(np.float32) / np.float32(64)
                if self.chance(0.2):
                    values[..., 0] = 0
                if "variance" in one.path:
                    values = np.abs(values) + np.float32(0.2)
                one.assign(values)
