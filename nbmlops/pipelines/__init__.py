"""Notebooks run headlessly: a parameter contract, a run, an exit code."""
