"""Translate between a person or program and the verbs: magic, command line, REST; nothing else."""
