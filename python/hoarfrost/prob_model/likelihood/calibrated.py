"""Weight samples whose outputs go through a fitted calibrator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hoarfrost.calibration import OutputCalibrator
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.predictive.weight_samples import WeightSamples
from hoarfrost.types import Tree

# Under which the parameters of the calibrator stand in a state.
KEY = "output_calibrator"


def as_calibrator(module: Any) -> OutputCalibrator | None:
    """The argument `output_calibrator` of a model, checked."""
    return None if module is None else OutputCalibrator(module)


def calibrated(
    samples: WeightSamples,
    calibrator: OutputCalibrator | None,
    calib_params: Tree | None,
    calib_mutable: Tree | None = None,
) -> WeightSamples:
    """The samples with outputs that go through the calibrator, where there are parameters for it.

    Parameters
    ----------
    calib_params, calib_mutable : tree or None
        Of a state: ``{"output_calibrator": {"params": ...}}`` and None. Without `calib_params`
        outputs stay as they are.

    Raises
    ------
    InvalidArgumentError
        If they are not of this form, or the model has no calibrator.
    """
    if calib_mutable:
        raise InvalidArgumentError(
            "calib_mutable was given, but calibrators have parameters and no other collections; "
            "leave it out"
        )
    if calib_params is None:
        return samples
    if calibrator is None:
        raise InvalidArgumentError(
            "calib_params was given, but the model was made with output_calibrator=None; leave it "
            "out"
        )
    if not isinstance(calib_params, Mapping) or "params" not in calib_params.get(KEY, {}):
        raise InvalidArgumentError(
            f"calib_params must be a tree {{{KEY!r}: {{'params': ...}}}}, such as "
            "posterior.state.get().calib_params after calibrate()"
        )
    return dataclasses.replace(
        samples, transform=calibrator, transform_variables=dict(calib_params[KEY])
    )
