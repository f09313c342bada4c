# ruff: noqa: E501
from __future__ import annotations

from edgeflow.ir.graph import Graph
from edgeflow.semantics.text import show_graph


def test_the_text_form(graph: Graph) -> None:
    assert show_graph(graph) == TEXT


TEXT = """\
graph 'every op'
  input %x: i4[-8, 7] 4x4x2 @ 2^-3
  %conv: i10[-175, 413] 4x4x4 @ 2^-5..2^-7 per channel = Conv(%x) weight=i3<3x3x1x4> bias=[5,-5,300,0] strides=(1,1) pads=((1,1),(1,1)) dilation=(1,1) groups=2 pad_value=-1  # layer 'conv'
  %conv_act: i5[-16, 15] 4x4x4 @ 0.1 (q - 1) = Requant(%conv) pre=[0,0,0,1] multiplier=3 stages.0.shift=[4] stages.0.rounding=half_up stages.1.shift=1 stages.1.rounding=half_away offset=1 lo=-16 hi=15  # layer 'conv'
  %max: i5[-16, 15] 2x2x4 @ 2^-2 = MaxPool(%conv_act) window=(2,2) strides=(2,2) pads=((0,0),(0,0))  # layer 'max'
  %mean: i7[-64, 60] 2x2x4 @ 2^-2 = SumPool(%conv_act) window=(2,2) strides=(2,2) pads=((0,0),(0,0))  # layer 'mean'
  %add: i8[-76, 79] 2x2x4 @ 2^-2 = Add(%max, %mean) signs=(1,-1)  # layer 'add'
  %flat: i8[-76, 79] 16 @ 2^-2 = Reshape(%add) target=(16,)  # layer 'flat'
  %dense: i13[-2783, 2942] 3 @ 2^-4 = Dense(%flat) weight=i4<16x3> bias=[1,2,3]  # layer 'dense'
  output 'scores' = %dense
  output 'sum' = %add
"""
