"""Model versions: bytes with a manifest, aliases that move only with evidence."""
