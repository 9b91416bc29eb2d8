"""Data: fingerprints, profiles, and the mathematics of drift."""
