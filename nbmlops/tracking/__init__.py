"""Runs: begun, logged to, ended truthfully, listed and compared."""
