"""The evidence, and the prior and noise at its maximum or by held-out data."""
