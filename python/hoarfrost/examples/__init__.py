"""Complete examples on real data; ``python -m hoarfrost`` runs the one in `main_job`."""
