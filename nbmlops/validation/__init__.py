"""Gates: checks measure, conditions judge."""
