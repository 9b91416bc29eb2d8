"""The HTTP client of alerts against real servers, good and bad; which addresses it calls."""

import contextlib
import datetime
import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.errors import StoreError, UsageError
from nbmlops.monitoring import outbound
from nbmlops.monitoring.outbound import is_public, post, signature
from nbmlops.scrub import scrub_text
from tests.monitoring.hooks import PATH, hook, raw


# --------------------------------------------------------------------- addresses
@pytest.mark.parametrize(
    "network",
    [
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "203.0.113.0/24"),
    ],
)
@given(data=st.data())
def test_no_address_of_a_network_of_ones_own_is_public_however_it_is_wrapped(network: str, data: Any) -> None:
    inner = data.draw(st.ip_addresses(v=4, network=network))
    number = int(inner)
    assert not is_public(str(inner))
    assert not is_public(f"::ffff:{inner}")
    assert not is_public(str(ipaddress.IPv6Address((0x64FF9B << 96) | number)))
    assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80))))
    assert not is_public(str(ipaddress.IPv6Address((0x20010000 << 96) | (0x08080808 << 64) | (number ^ 0xFFFFFFFF))))


@pytest.mark.parametrize(
    "network", ["::/96", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "2001:db8::/32", "100::/64", "4000::/2"]
)
@given(data=st.data())
def test_no_address_of_ipv6_that_is_not_given_out_is_public(network: str, data: Any) -> None:
    assert not is_public(str(data.draw(st.ip_addresses(v=6, network=network))))


@given(st.ip_addresses(v=4))
def test_what_is_public_is_global_and_its_wrapping_is_judged_like_it(address: ipaddress.IPv4Address) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not any((address.is_multicast, address.is_private, address.is_loopback, address.is_link_local))
    nat64 = ipaddress.IPv6Address((0x64FF9B << 96) | int(address))
    assert is_public(str(nat64)) == is_public(str(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "2130706433", "0x7f.1", "[::1]", "[::ffff:7f00:1]"]
)
def test_a_private_address_is_refused_before_anybody_is_called(host: str) -> None:
    with raw(lambda _: None) as (url, connected):
        port = url.partition("127.0.0.1:")[2].partition("/")[0]
        with contextlib.ExitStack() as failing:
            refused = failing.enter_context(pytest.raises((UsageError, StoreError)))
            post(f"https://{host}:{port}/x", b"{}", {})
        time.sleep(0.1)
        assert connected == []
        assert PATH not in str(refused.value)


def test_a_name_that_leads_to_this_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(UsageError, match=r"its address, 127\.0\.0\.1, is no public one"):
        post("https://hooks.example.com/x", b"{}", {})


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 443)) for each in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(UsageError, match=r"10\.0\.0\.1"):
        post("https://hooks.example.com/x", b"{}", {})


@pytest.mark.parametrize(
    "url", ["ftp://8.8.8.8/x", "8.8.8.8", "https://", "https://[::1/x", "https://h:99999/", "file:///x"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        post(url, b"{}", {}, private=True)


def test_without_tls_only_private_addresses_are_called() -> None:
    with pytest.raises(UsageError, match="no https"):
        post("http://8.8.8.8/x", b"{}", {})


# ----------------------------------------------------------------------- answers
def test_a_message_arrives_as_it_was_sent() -> None:
    with hook() as them:
        answer = post(f"{them.url}?thread=1", b'{"text": "a"}', {"webhook-id": "msg_1"}, private=True)
    assert (answer.status, answer.is_taken) == (200, True)
    [call] = them.calls
    assert (call.path, call.id, call.content) == (f"{PATH}?thread=1", "msg_1", {"text": "a"})


def test_a_redirect_is_not_followed() -> None:
    with hook() as elsewhere, hook() as them:
        them.statuses, them.location = [302, 307, 308], elsewhere.url
        for _ in range(3):
            answer = post(them.url, b"{}", {}, private=True)
            assert not answer.is_taken
            assert "not followed" in str(answer)
    assert elsewhere.calls == []


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with hook() as proxy, hook() as them:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        post(them.url, b"{}", {}, private=True)
    assert (len(them.calls), proxy.calls) == (1, [])


def test_what_an_answer_says_is_short_and_holds_no_part_of_the_address() -> None:
    with hook() as them:
        them.statuses, them.says = [404], b"<p>no such hook: " + PATH.encode() + b"\n\n" + b"x" * 100_000
        answer = post(them.url, b"{}", {}, private=True)
    assert "a-path-that-is-secret" not in answer.words
    assert len(answer.words) <= 200
    assert str(answer).startswith("404: <p>no such hook: ***")


def _trickle(sock: socket.socket) -> None:
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(40):
        sock.sendall(b"x")
        time.sleep(0.05)


def _slow_head(sock: socket.socket) -> None:
    sock.recv(65536)
    for _ in range(40):
        sock.sendall(b"X-A: b\r\n" if _ else b"HTTP/1.1 200 OK\r\n")
        time.sleep(0.05)


@pytest.mark.parametrize("talk", [lambda _: None, _slow_head], ids=["silent", "slow head"])
def test_a_server_that_does_not_come_to_an_end_is_left(
    talk: Callable[[socket.socket], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "TIMEOUT_S", 0.5)
    with raw(talk) as (url, _):
        started = time.monotonic()
        with pytest.raises(StoreError, match=r"did not answer within 0\.5 s"):
            post(url, b"{}", {}, private=True)
        assert time.monotonic() - started < 1.5


def test_a_server_that_has_taken_it_and_goes_on_talking_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "TIMEOUT_S", 0.5)
    with raw(_trickle) as (url, _):
        started = time.monotonic()
        assert post(url, b"{}", {}, private=True).is_taken
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" * 3000])
def test_what_is_no_http_is_told_in_a_few_words(said: bytes) -> None:
    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(said)
        sock.shutdown(socket.SHUT_RDWR)

    with raw(talk) as (url, _), pytest.raises(StoreError, match="it is out of reach"):
        post(url, b"{}", {}, private=True)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StoreError, match="out of reach: Connection refused"):
        post(f"http://127.0.0.1:{port}/", b"{}", {}, private=True)


def test_a_certificate_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with hook(lambda sock: context.wrap_socket(sock, server_side=True)) as them:
        with pytest.raises(StoreError, match=r"its certificate is not valid: self.signed certificate"):
            post(them.url, b"{}", {}, private=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert post(them.url, b"{}", {}, private=True).is_taken
        port = them.url.partition("127.0.0.1:")[2]
        with pytest.raises(StoreError, match="its certificate is not valid: Hostname mismatch"):
            post(f"https://localhost:{port}", b"{}", {}, private=True)
    assert len(them.calls) == 1


def _certificate(folder: Path) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hook")])
    now = datetime.datetime.now(datetime.UTC)
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
    made = builder.not_valid_after(now + datetime.timedelta(days=1)).add_extension(place, critical=False)
    paths = folder / "hook.pem", folder / "hook.key"
    paths[0].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    forms = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*forms))
    return paths


# --------------------------------------------------------------------- signatures
@given(st.binary(min_size=24, max_size=64), st.binary(max_size=300), st.integers(0, 2**33))
def test_a_signature_is_what_the_standard_says(key: bytes, body: bytes, timestamp: int) -> None:
    secret = f"whsec_{b64encode(key).decode()}"
    made = signature(secret, "msg_1", timestamp, body)
    expected = hmac.new(key, f"msg_1.{timestamp}.".encode() + body, hashlib.sha256).digest()
    assert b64decode(made.removeprefix("v1,")) == expected


def test_a_secret_that_is_no_base64_is_refused_and_not_told() -> None:
    with pytest.raises(UsageError, match="no base64") as refused:
        signature("whsec_not base64!", "msg_1", 0, b"")
    assert "not base64!" not in str(refused.value)


def test_an_address_is_masked_once_it_was_used() -> None:
    with hook() as them:
        post(them.url, b"{}", {}, private=True)
    told = json.dumps({"url": them.url, "path": "see a-path-that-is-secret"})
    assert "a-path" not in scrub_text(told)
