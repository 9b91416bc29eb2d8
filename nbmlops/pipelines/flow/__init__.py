"""Pipelines as nbmlops.toml declares them: read, checked, drawn and planned; nothing is run here."""
