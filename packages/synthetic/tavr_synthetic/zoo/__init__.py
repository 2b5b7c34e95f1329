"""Trainers of the tiny weights, one module a role: `python -m tavr_synthetic.zoo.<role> --out DIR`."""
