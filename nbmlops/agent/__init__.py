"""The project's own verbs: what is, beside what is wanted."""
