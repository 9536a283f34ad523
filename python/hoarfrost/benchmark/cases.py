"""What is measured: the cases, their inputs, and the settings that all contestants share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

PRIOR_PRECISION = 1.0
NEW_PRIOR_PRECISION = 10.0
NOISE_STD = 0.5
NUM_SAMPLES = 200
# Where an expert without derivatives looks for the prior precision of the largest evidence.
GRID = np.logspace(-3, 3, 20)
NUM_POINTS = 1_000
BATCH_SIZE = 2_048
# Points whose functional covariance is compared with the reference.
NUM_COMPARED = 4
CORE_ROWS = 256

Kind = Literal["softmax", "bernoulli", "gaussian", "network", "cholesky"]


@dataclass(frozen=True)
class Case:
    """One problem: N data, D inputs of the layer, C outputs.

    For a "network" the trainable part is a whole multilayer perceptron with `hidden` tanh units;
    for "cholesky" `num_inputs` is the edge of the matrix and there are no data.
    """

    name: str
    kind: Kind
    num_data: int
    num_inputs: int
    num_outputs: int
    hidden: int = 0
    quick: bool = False
    on_request: bool = False

    @property
    def num_features(self) -> int:
        """D', the layer's inputs and a one for the bias."""
        return self.num_inputs + 1

    @property
    def num_params(self) -> int:
        """P, the trainable parameters."""
        if self.kind == "cholesky":
            return self.num_inputs
        if self.kind == "network":
            return self.hidden * self.num_features + self.num_outputs * (self.hidden + 1)
        return self.num_outputs * self.num_features

    @property
    def is_head(self) -> bool:
        """Whether the trainable part is a last layer."""
        return self.kind in ("softmax", "bernoulli", "gaussian")

    @property
    def title(self) -> str:
        """The case in words."""
        if self.kind == "cholesky":
            return f"Cholesky, P = {self.num_params:,} (hoarfrost._core)"
        what = {
            "softmax": "softmax head",
            "bernoulli": "binary head",
            "gaussian": "Gaussian head",
            "network": f"whole network of {self.hidden} hidden units, by Jacobians",
        }[self.kind]
        return (
            f"{what}, N = {self.num_data:,}, D = {self.num_inputs:,}, C = {self.num_outputs}"
            f" (P = {self.num_params:,})"
        )


CASES = {
    case.name: case
    for case in (
        Case("softmax-64x10", "softmax", 1_797, 64, 10, quick=True),
        Case("softmax-512x10", "softmax", 10_000, 512, 10),
        Case("softmax-384x12", "softmax", 2_000, 384, 12),
        Case("softmax-768x4", "softmax", 10_000, 768, 4),
        Case("softmax-128x100", "softmax", 5_000, 128, 100),
        Case("network", "network", 5_000, 64, 10, hidden=66),
        Case("binary", "bernoulli", 10_000, 512, 1, quick=True),
        Case("gaussian", "gaussian", 10_000, 512, 10, quick=True),
        Case("cholesky", "cholesky", 0, 5_130, 1),
        Case("memory", "softmax", 10_000, 1_199, 10, on_request=True),
        Case("long", "softmax", 50_000, 2_048, 10, on_request=True),
    )
}


def write_inputs(case: Case, path: Path) -> None:
    """Make a case's arrays once, so that every contestant reads the same ones."""
    generator = np.random.default_rng(20_231_123)
    if case.kind == "cholesky":
        rows = generator.standard_normal((CORE_ROWS, case.num_inputs), dtype=np.float32)
        np.savez(path, rows=rows)
        return
    count = case.num_data + NUM_POINTS
    if case.kind == "network":
        x = generator.standard_normal((count, case.num_inputs), dtype=np.float32)
        params = _network_params(case, generator)
        outputs = np.tanh(x @ params["kernel_1"] + params["bias_1"]) @ params["kernel_2"]
    else:
        x = _features(count, case.num_inputs, generator)
        params = _head_params(case, x, generator)
        outputs = x @ params["kernel"] + params["bias"]
    y = _targets(case, outputs[: case.num_data], generator)
    arrays: dict[str, Any] = {"x": x[: case.num_data], "y": y, "points": x[case.num_data :]}
    np.savez(path, **arrays | params)


def read_inputs(path: Path) -> dict[str, np.ndarray]:
    """What `write_inputs` wrote."""
    with np.load(path) as arrays:
        return dict(arrays.items())


def params_of(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The network's parameters among a case's arrays."""
    return {name: inputs[name] for name in inputs if name.startswith(("kernel", "bias"))}


def _features(count: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Correlated rectified features, as before a last layer.

    Multiples of 1/16 below 4: with a kernel of multiples of 1/256 every partial sum of a logit is
    exact in float32, so that all contestants have the same logits bit for bit, and errors are
    those of the algebra.
    """
    rank = max(1, width // 4)
    mix = generator.standard_normal((rank, width), dtype=np.float32) / np.float32(np.sqrt(rank))
    x = generator.standard_normal((count, rank), dtype=np.float32) @ mix
    x += 0.5 * generator.standard_normal((count, width), dtype=np.float32)
    return np.asarray(np.clip(np.round(16 * x), 0, 63) / 16, dtype=np.float32)


def _head_params(
    case: Case, x: np.ndarray, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Logits with a standard deviation of about 2.5: sure at many points, unsure at some."""
    scale = 2.5 / np.sqrt(case.num_inputs * np.mean(np.square(x[:1_000])))
    kernel = generator.normal(scale=scale, size=(case.num_inputs, case.num_outputs))
    bias = generator.normal(scale=0.5, size=case.num_outputs)
    return {
        "kernel": np.asarray(np.round(256 * kernel) / 256, dtype=np.float32),
        "bias": np.asarray(np.round(256 * bias) / 256, dtype=np.float32),
    }


def _network_params(case: Case, generator: np.random.Generator) -> dict[str, np.ndarray]:
    shapes = {
        "kernel_1": (case.num_inputs, case.hidden),
        "bias_1": (case.hidden,),
        "kernel_2": (case.hidden, case.num_outputs),
        "bias_2": (case.num_outputs,),
    }
    scales = {"kernel_1": case.num_inputs**-0.5, "kernel_2": 3 * case.hidden**-0.5}
    return {
        name: np.asarray(
            generator.normal(scale=scales.get(name, 0.1), size=shape), dtype=np.float32
        )
        for name, shape in shapes.items()
    }


def _targets(case: Case, outputs: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    if case.kind == "gaussian":
        noise = generator.normal(scale=NOISE_STD, size=outputs.shape)
        return np.asarray(outputs + noise, dtype=np.float32)
    if case.kind == "bernoulli":
        probability = 1 / (1 + np.exp(-outputs))
        return np.asarray(generator.random(outputs.shape) < probability, dtype=np.int32)
    return np.asarray(np.argmax(outputs + generator.gumbel(size=outputs.shape), axis=1))
