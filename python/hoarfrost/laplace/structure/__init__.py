"""Structures of the posterior: one file each, listed in `registry`."""
