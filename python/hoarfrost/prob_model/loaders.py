"""Loaders as the front accepts them; by the rule of all of Hoarfrost."""

from hoarfrost.data.accepted import as_data_loader, as_inputs_loader

__all__ = ["as_data_loader", "as_inputs_loader"]
