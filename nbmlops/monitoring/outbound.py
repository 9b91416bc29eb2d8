"""The one HTTP client that calls addresses which people have configured: they are secrets, and may be traps.

An address of this machine or of its network is refused unless that is allowed: before the connection, which goes to the
very address that was judged and to no other that the name may have a moment later, and once more by the connection's
peer. There are no redirects and no proxies; certificates are verified; times and sizes are bounded. Nothing that is
told of a call holds the address.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nbmlops.errors import StoreError, UsageError
from nbmlops.scrub import remember, scrub_text

TIMEOUT_S = 10.0  # for the whole exchange, once the name is resolved
LARGEST_ANSWER = 16 * 1024  # bytes that are read of one
LONGEST_WORDS = 200  # characters that are told of one
SHORTEST_PATH, SHORTEST_PART = 8, 16  # characters of what is masked by itself; ``services`` is in many an address
SIGNED = "whsec_"  # begins a secret that is base64
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that is given out


@dataclass(frozen=True)
class Answer:
    """What came back: the status, and its first words without secrets."""

    status: int
    words: str = ""

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has taken it."""
        return 200 <= self.status < 300

    def __str__(self) -> str:
        if 300 <= self.status < 400:
            return f"{self.status}: it sends elsewhere, which is not followed"
        return f"{self.status}{f': {self.words}' if self.words and not self.is_taken else ''}"


def post(url: str, body: bytes, headers: Mapping[str, str], *, private: bool = False) -> Answer:
    """Send a body to an address, once.

    Parameters
    ----------
    url
        ``https://...``; ``http://...`` only where `private` is set.
    body
        What is sent.
    headers
        Beside those of every call.
    private
        Whether addresses of this machine and its networks may be called.

    Raises
    ------
    UsageError
        The address is none, or may not be called.
    StoreError
        It is out of reach, or has not answered in time.
    """
    parts = _parts(url, private=private)
    place = parts.path or "/"
    target = urllib.parse.quote(f"{place}?{parts.query}" if parts.query else place, safe="/?&=%:;,@!$'()*+~-._")
    given = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "nbmlops", "Connection": "close", **headers}
    try:
        with _connected(parts, private=private) as connection:
            connection.request("POST", target, body, given)
            response = connection.getresponse()
            if connection.is_over.is_set():  # a head that was cut off reads like one that has ended
                raise TimeoutError
            said = response.read(LARGEST_ANSWER).decode(errors="replace")
    except ssl.SSLCertVerificationError as exc:
        raise StoreError(f"its certificate is not valid: {exc.verify_message}.") from None
    except TimeoutError:
        raise StoreError(f"it did not answer within {TIMEOUT_S:g} s.") from None
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise StoreError(f"it is out of reach: {_reason(exc)}.") from None
    return Answer(response.status, scrub_text(" ".join(said.split()))[:LONGEST_WORDS])


def signature(secret: str, identity: str, timestamp: int, body: bytes) -> str:
    """Sign a message as Standard Webhooks 1.0 says: HMAC-SHA256 over ``id.timestamp.body``.

    Parameters
    ----------
    secret
        ``whsec_`` and base64, as the standard writes it; of any other text the bytes are the key.
    identity
        The message's id, the same at each attempt.
    timestamp
        Of this attempt, seconds of the epoch.
    body
        As it is sent.

    Raises
    ------
    UsageError
        What follows ``whsec_`` is no base64.

    Examples
    --------
    >>> key, identity = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    >>> signature(key, identity, 1614265330, b'{"test": 2432232314}')
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    try:
        key = base64.b64decode(secret.removeprefix(SIGNED), validate=True) if secret.startswith(SIGNED) else None
    except binascii.Error:
        raise UsageError("The secret begins with whsec_, and what follows is no base64.") from None
    content = f"{identity}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode() if key is None else key, content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def is_public(address: str) -> bool:
    """Say whether an address is one of the open Internet, and of nobody's own network, machine or group.

    An address that wraps another one (mapped, 6to4, Teredo, NAT64) is what it wraps as well.

    Examples
    --------
    >>> [is_public(each) for each in ("8.8.8.8", "2606:4700::1111")]
    [True, True]
    >>> [is_public(each) for each in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "224.0.0.1", "::1", "fe80::1%eth0")]
    [False, False, False, False, False, False]
    >>> [is_public(each) for each in ("::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "100.64.0.1")]
    [False, False, False, False]
    """
    found = ipaddress.ip_address(address)
    return _is_own_kind(found) and all(_is_own_kind(inner) for inner in _wrapped(found))


def _is_own_kind(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not (address.is_multicast or address.is_reserved)
    return address in _NAT64 or (address in _GLOBAL_V6 and (address.is_global or address.teredo is not None))


def _wrapped(address: IPAddress) -> Iterator[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    yield from (inner for inner in (address.ipv4_mapped, address.sixtofour) if inner)
    yield from address.teredo or ()


# ------------------------------------------------------------------- connecting
class Connection(http.client.HTTPConnection):
    """HTTP over a socket that is connected already; `is_over` is set when its time is out."""

    def __init__(self, sock: socket.socket, host: str, is_over: threading.Event) -> None:
        super().__init__(host)
        self.sock = sock
        self.is_over = is_over


def _parts(url: str, *, private: bool) -> urllib.parse.SplitResult:
    """Take an address apart, and mask its parts from now on: programs show them one by one."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        parts.port  # noqa: B018  # which is read now, and is none of 99999
    except ValueError:
        raise UsageError("it is no address.") from None
    whole = [each for each in (parts.path, parts.query, parts.password or "") if len(each) >= SHORTEST_PATH]
    remember(url, *whole, *(each for each in parts.path.split("/") if len(each) >= SHORTEST_PART))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("it is no address of HTTP.", "https://HOST/...")
    if parts.scheme == "http" and not private:
        raise UsageError("its address is no https, so that all on the way could read it.", "Only private ones may be.")
    return parts


@contextlib.contextmanager
def _connected(parts: urllib.parse.SplitResult, *, private: bool) -> Iterator["Connection"]:
    """Connect to a place that may be called; the connection ends when its time is out, whatever trickles over it."""
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    with contextlib.ExitStack() as closing:
        plain = closing.enter_context(_socket(host, port, private=private))
        is_over = closing.enter_context(_ended_in_time(plain))
        try:
            sock = _secured(plain, host) if parts.scheme == "https" else plain
            yield Connection(closing.enter_context(sock), host, is_over)
        except (OSError, http.client.HTTPException, ValueError):
            if is_over.is_set():
                raise TimeoutError from None
            raise


def _socket(host: str, port: int, *, private: bool) -> socket.socket:
    """Connect to the first of a name's addresses that answers, if all of them may be called."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    places = [(family, place) for family, _, _, _, place in found]
    for _, place in places:
        _check(str(place[0]), private=private)
    failure: OSError = OSError("the name has no address")
    for family, place in places:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(TIMEOUT_S)
            sock.connect(place)
            _check(str(sock.getpeername()[0]), private=private)
        except OSError as exc:
            sock.close()
            failure = exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


def _check(address: str, *, private: bool) -> None:
    if not private and not is_public(address):
        raise UsageError(f"its address, {address}, is no public one: it is called only where private = true allows it.")


def _secured(plain: socket.socket, host: str) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    return context.wrap_socket(plain, server_hostname=host)


@contextlib.contextmanager
def _ended_in_time(sock: socket.socket) -> Iterator[threading.Event]:
    """End a connection whose exchange takes too long as a whole: a trickle of bytes never meets the socket's limit."""
    is_over, twin = threading.Event(), sock.dup()  # TLS takes the socket itself over

    def end() -> None:
        is_over.set()
        with contextlib.suppress(OSError):
            twin.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(TIMEOUT_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield is_over
    finally:
        timer.cancel()
        twin.close()


def _reason(exc: Exception) -> str:
    words = exc.strerror if isinstance(exc, OSError) and exc.strerror else ""
    return scrub_text(words or str(exc) or type(exc).__name__)[:LONGEST_WORDS].rstrip(".")
