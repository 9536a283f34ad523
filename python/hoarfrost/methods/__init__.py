"""Approximate posteriors over the trainable parameters, beside the exact Laplace posterior."""
