"""nbmlops' own records: append-only, hash-chained events, and what is wanted."""
