"""Helpers, where code written for Fortuna looks for them."""
