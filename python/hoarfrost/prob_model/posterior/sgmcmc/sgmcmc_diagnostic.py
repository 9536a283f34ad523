"""Diagnostics of samples, where code written for Fortuna looks for them."""

from hoarfrost.methods.diagnostics import (
    effective_sample_size,
    kernel_stein_discrepancy_imq,
)

__all__ = [
    "effective_sample_size",
    "kernel_stein_discrepancy_imq",
]
