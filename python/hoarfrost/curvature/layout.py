"""Where a last layer's kernel and bias sit among the trainable leaves, by their shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HeadLayout:
    """Where a last layer's kernel and bias sit among the trainable leaves.

    Attributes
    ----------
    num_outputs : int
        ``C``, the network's outputs.
    num_inputs : int
        ``D``, the layer's inputs; 0 where only the bias is trainable.
    kernel : int or None
        Index of the kernel among the trainable leaves.
    output_axis : int
        Which axis of the kernel runs over the outputs.
    bias : int or None
        Index of the bias among the trainable leaves.
    """

    num_outputs: int
    num_inputs: int
    kernel: int | None
    output_axis: int
    bias: int | None

    @property
    def num_features(self) -> int:
        """``D'``: the layer's inputs, and a one where the bias is trainable."""
        return self.num_inputs + (self.bias is not None)

    def order(self) -> np.ndarray:
        """Ravelled index of each of the core's class-major indices ``c * D' + i``; int64."""
        num_outputs, num_inputs = self.num_outputs, self.num_inputs
        kernel_size = num_outputs * num_inputs
        order = np.empty((num_outputs, self.num_features), dtype=np.int64)
        if self.kernel is not None:
            start = num_outputs if self.bias is not None and self.bias < self.kernel else 0
            index = np.arange(start, start + kernel_size, dtype=np.int64)
            if self.output_axis == 0:
                order[:, :num_inputs] = index.reshape(num_outputs, num_inputs)
            else:
                order[:, :num_inputs] = index.reshape(num_inputs, num_outputs).T
        if self.bias is not None:
            start = kernel_size if self.kernel is not None and self.kernel < self.bias else 0
            order[:, -1] = np.arange(start, start + num_outputs)
        return order.ravel()


def candidate_layouts(shapes: Sequence[tuple[int, ...]], num_outputs: int) -> list[HeadLayout]:
    """Every way in which leaves of these shapes could be a last layer; often none."""
    kernels = [index for index, shape in enumerate(shapes) if len(shape) == 2]
    biases = [index for index, shape in enumerate(shapes) if shape == (num_outputs,)]
    if len(kernels) > 1 or len(biases) > 1 or len(kernels) + len(biases) != len(shapes):
        return []
    bias = biases[0] if biases else None
    if not kernels:
        return [HeadLayout(num_outputs, 0, None, 1, bias)] if biases else []
    kernel = kernels[0]
    # Flax keeps (inputs, outputs); functions in the style of `W @ x` keep (outputs, inputs).
    return [
        HeadLayout(num_outputs, shapes[kernel][1 - axis], kernel, axis, bias)
        for axis in (1, 0)
        if shapes[kernel][axis] == num_outputs and shapes[kernel][1 - axis] > 0
    ]


def matrix_shape(shape: tuple[int, ...], positions: tuple[int, ...]) -> tuple[int, ...]:
    """A leaf's shape; of a convolution over one position at a time, without its axes of length 1.

    Where there are positions: such a convolution is a Dense layer that they share.
    """
    while positions and len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape
