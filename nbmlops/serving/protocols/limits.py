"""How large a request may be. Imports nothing heavy: verbs read it too."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a body may be; beyond `max_body_bytes` or `max_rows` the answer is 413, beyond `max_depth` 400."""

    max_body_bytes: int = 16 * 2**20
    max_rows: int = 1_000_000
    max_depth: int = 64  # lists and objects inside each other


LIMITS = Limits()
