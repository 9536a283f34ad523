"""What a Laplace posterior buys and costs: ``python -m hoarfrost.examples.results``."""
