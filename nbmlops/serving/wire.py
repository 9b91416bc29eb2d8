"""How workers and model processes speak over their sockets: frames of a fixed head and a body."""

import struct

FRAME = struct.Struct(
    "!IIH"
)  # a request: length of what follows, its number, length of the content type before the body
REPLY = struct.Struct("!IIH")  # an answer: length of the body, number of the request, HTTP status
GOING = REPLY.pack(0, 0, 0)  # instead of an answer: ask me no more; what was asked will be answered


def socket_name(child: int | str) -> str:
    """Name the socket at which a model process answers, in the model's folder."""
    return f"model-{child}.sock"
