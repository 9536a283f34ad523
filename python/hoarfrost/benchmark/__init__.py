"""Hoarfrost measured against pure JAX on the same inputs, threads and run: ``python -m
hoarfrost.benchmark``.

Every contestant runs in child processes that are held to the same cores, its repeats alternate with
ours, and the ratio reported is the median of the paired ratios. The contestants are ours (the
public front alone, except the two core rows, which say so), *plain* JAX, *expert* JAX, *tuned* JAX,
and SciPy's BLAS and LAPACK as the ceiling.
"""
