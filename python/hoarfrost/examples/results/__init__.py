"""What the Laplace posterior buys and costs on small public data: ``python -m ...results``."""
