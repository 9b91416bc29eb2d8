"""What is spoken with callers: bytes in, a `Request` or an `Answer` out. Pure, and light enough for a worker."""
