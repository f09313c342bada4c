"""Flows for the tests of the schedule: a keyword spotter's, and random ones."""

from __future__ import annotations

from hypothesis import strategies as st

from edgeflow.backends.c.flow import Flow, Read, Reuse, Step, Tensor, Window


def keyword_spotter(pointwise: Reuse = Reuse.SAME_ROWS, depthwise: Reuse = Reuse.ANY_ROWS, writes: int = 1) -> Flow:
    """49 x 10 in; a convolution 10 x 4, stride 2; four times depthwise 3 x 3 and 1 x 1 at 25 x 5 x 64; mean; dense."""
    tensors = {"input": Tensor(49, 10), "conv": Tensor(25, 320, 4)}
    steps = [Step("conv", (Read("input", Window(10, 2, 4)),), "conv", scratch=512)]
    last = "conv"
    for block in range(1, 5):
        tensors |= {f"deep{block}": Tensor(25, 320, 4), f"point{block}": Tensor(25, 320, 4)}
        steps.append(Step(f"deep{block}", (Read(last, Window(3, 1, 1), depthwise),), f"deep{block}", writes=writes))
        last = f"point{block}"
        steps.append(Step(last, (Read(f"deep{block}", Window(1), pointwise),), last, scratch=512))
    tensors |= {"pool": Tensor(1, 64, 4), "dense": Tensor(1, 12, 4), "output": Tensor(1, 12)}
    steps.append(Step("pool", (Read(last, Window(1)),), "pool", accumulates=True, accumulator=128))
    steps.append(Step("dense", (Read("pool"),), "dense", scratch=512))
    steps.append(Step("softmax", (Read("dense"),), "output", scratch=48))
    return Flow(tensors, ("input",), ("output",), tuple(steps))


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    """Up to eight steps on one or two inputs: windows, joins, barriers, accumulations, one or two outputs."""
    tensors = {
        f"in{i}": Tensor(draw(st.integers(1, 9)), draw(st.integers(1, 12))) for i in range(draw(st.integers(1, 2)))
    }
    inputs = tuple(tensors)
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 8))):
        step, tensor = draw(_steps(tensors, f"t{number}"))
        steps.append(step)
        tensors[step.result] = tensor
    outputs = {steps[-1].result} | draw(st.sets(st.sampled_from(sorted(set(tensors) - set(inputs))), max_size=1))
    return Flow(tensors, inputs, tuple(sorted(outputs)), tuple(steps))


@st.composite
def _steps(draw: st.DrawFn, tensors: dict[str, Tensor], name: str) -> tuple[Step, Tensor]:
    operand = draw(st.sampled_from([*tensors][-4:]))
    rows, size = tensors[operand].rows, tensors[operand].row_bytes
    scratch, alignment = draw(st.sampled_from([0, 0, 7, 16])), draw(st.sampled_from([1, 2, 4]))
    writes = draw(st.sampled_from([1, 1, 2, 3]))
    match draw(st.sampled_from(["window", "window", "join", "whole", "pointwise", "accumulate"])):
        case "window":
            window = Window(draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(0, 2)))
            made = max(1, (rows + 2 * window.before - window.size) // window.stride + 1)
            made = min(made, (rows - 1 + window.before) // window.stride + 1)
            reads = (Read(operand, window, draw(st.sampled_from([Reuse.NEVER, Reuse.ANY_ROWS]))),)
            return Step(name, reads, name, scratch, writes=writes), Tensor(made, size, alignment)
        case "join":
            same = [one for one, kind in tensors.items() if kind.rows == rows]
            reads = (Read(operand, Window(1), Reuse.SAME_ROWS), Read(draw(st.sampled_from(same)), Window(1)))
            return Step(name, reads, name, scratch), Tensor(rows, size, alignment)
        case "whole":
            made = draw(st.integers(1, 6))
            return Step(name, (Read(operand),), name, scratch), Tensor(made, draw(st.integers(1, 12)), alignment)
        case "pointwise":
            reads = (Read(operand, Window(1), Reuse.SAME_ROWS),)
            return Step(name, reads, name, scratch, writes=writes), Tensor(rows, draw(st.integers(1, 16)), alignment)
        case _:
            kept = draw(st.sampled_from([0, 4 * size]))
            step = Step(name, (Read(operand, Window(1)),), name, scratch, accumulates=True, accumulator=kept)
            return step, Tensor(1, size, alignment)
