"""All methods on the same head and on the same small network."""
