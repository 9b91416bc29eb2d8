"""Endpoints: a model version behind HTTP on this machine."""
