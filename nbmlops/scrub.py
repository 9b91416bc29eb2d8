"""Keep secrets out of everything that is written or shown: the one scrubber on every sink.

A secret is known by the name it goes by, by a well-known shape, or by its value, where this process
has been told of that (`remember`).
"""

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

MASK = "***"
SHORTEST = 4  # characters of a value that is masked wherever it stands: shorter ones are in every other word
_SHORTEST_CODED = 8  # characters of a value's base64 or hexadecimal form: shorter ones arise by chance

_SECRET_NAME = re.compile(
    r"(?i)passw|passphrase|pwd|secret|token$|api_?key|access_?key|account_?key|private_?key|signing_?key"
    r"|credential|authorization|connection_?string"
)
_REFERENCE = re.compile(r"^(env|file):")


class Shape(NamedTuple):
    """One well-known shape of a secret.

    `marks` are texts of which one is in every text that holds the secret: looking for them is much faster than
    the pattern. With `any_case` all is in lower case. `before` stays in the text. Each pattern begins with its
    fixed letters, which the search skips to, and takes time linear in the text: what it repeats is bounded,
    or cannot begin inside of itself.
    """

    what: str
    marks: tuple[str, ...]
    pattern: str
    before: str = ""
    any_case: bool = False

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Find where secrets of this shape begin and end in a text, which is in lower case for `any_case`."""
        return [(found.end(1), found.end()) for found in _compiled(self).finditer(text)]


_NAMES = (  # of what is a secret whatever it is, in the syntax of code and of configuration
    r"(?:password|passwd|passphrase|pwd|api[_-]?key|client[_-]?secret|secret[_-]?key|secret[_-]?access[_-]?key"
    r"|access[_-]?key|account[_-]?key|private[_-]?key|auth[_-]?token|access[_-]?token|refresh[_-]?token)"
)
_NAME_MARKS = ("passw", "passphrase", "pwd", "key", "secret", "token")
_OPEN = r"(?!env:|file:|\*\*\*|\$|\{|<|%)"  # a reference, the mask, or a place where a value will be filled in

SHAPES: tuple[Shape, ...] = (
    Shape("an AWS access key", ("AKIA", "ASIA"), r"A[KS]IA(?<![A-Z0-9].{4})[0-9A-Z]{16}(?![0-9A-Za-z])"),
    Shape(
        "an AWS secret key",
        ("aws_secret_access_key", "secretaccesskey"),
        r"[a-z0-9/+]{40}(?![a-z0-9/+=])",
        before=r"secret_?access_?key\W{1,6}",
        any_case=True,
    ),
    Shape("a GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{36,}"),
    Shape("a GitHub token", ("github_pat_",), r"github_pat_[A-Za-z0-9_]{22,}"),
    Shape(
        "a GitLab token",
        ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glsoat-", "glagent-"),
        r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent)-[\w-]{20,}+",
    ),
    Shape("a Slack token", ("xox", "xapp-"), r"x(?:ox[abeoprs]|app)-[\w-]{10,}+"),
    Shape("a Slack webhook", ("hooks.slack.com/",), r"[A-Za-z0-9/]{20,}", before=r"hooks\.slack\.com/services/"),
    Shape("a Google API key", ("AIza",), r"AIza[\w-]{35}(?![\w-])"),
    Shape("a Google client secret", ("GOCSPX-",), r"GOCSPX-[\w-]{28}"),
    Shape("a Google access token", ("ya29.",), r"ya29\.[\w-]{20,}"),
    Shape("an API key", ("sk-",), r"sk-(?<![\w-]sk-)(?:(?:proj|svcacct|admin|ant|or|lf)-[\w-]{20,}|[A-Za-z0-9]{32,})"),
    Shape("a Stripe key", ("k_live_", "k_test_"), r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    Shape("a webhook's secret", ("whsec_",), r"whsec_[A-Za-z0-9+/=]{24,}"),
    Shape("an npm token", ("npm_",), r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    Shape("a PyPI token", ("pypi-A",), r"pypi-A[\w-]{50,}"),
    Shape("a Hugging Face token", ("hf_",), r"hf_(?<![A-Za-z0-9_]hf_)[A-Za-z0-9]{34,}(?![A-Za-z0-9_])"),
    Shape("a Databricks token", ("dapi",), r"dapi(?<![A-Za-z0-9_]dapi)[0-9a-f]{32}(?![0-9A-Za-z])"),
    Shape("a SendGrid key", ("SG.",), r"SG\.[\w-]{22}\.[\w-]{43}"),
    Shape("a JSON Web Token", ("eyJ",), r"eyJ(?<![\w-]eyJ)[\w-]{10,}+\.eyJ[\w-]{10,}+\.[\w-]*+"),
    Shape(
        "a private key",
        ("PRIVATE KEY",),
        r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[^-]*+(?:-(?!----)[^-]*+)*+-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
        r"|(?:\s|\\[nr]|[A-Za-z0-9+/=]{16,}+)*+)",  # cut off: what of it is there
    ),
    Shape("an Azure storage key", ("accountkey=",), r"[a-z0-9+/]{40,}={0,2}", before="accountkey=", any_case=True),
    Shape(
        "a header that authorises",
        ("authorization", "x-api-key", "private-token", "x-auth-token"),
        r"[\w.~+/=-]{6,}",
        before=r"(?:authorization[^\w\n]{1,8}(?:basic|bearer|token|apikey)\s+|(?:x-api-key|private-token|x-auth-token):\s*)",
        any_case=True,
    ),
    Shape(
        "a bearer token",
        ("bearer ",),
        r"(?=[a-z._~+/=-]{0,99}\d)[\w.~+/=-]{20,}",
        before=r"bearer\s+",
        any_case=True,
    ),
    Shape(
        "a secret in a URL's query",
        ("password=", "passwd=", "pwd=", "token=", "secret=", "key=", "sig=", "signature="),
        r"[^&\s\"'<>\\]+",
        before=r"[?&](?:password|passwd|pwd|token|secret|access_token|auth_token|api_?key|client_secret|sig|x-amz-signature"
        rf"|x-amz-security-token)={_OPEN}",
        any_case=True,
    ),
    Shape(  # Server=db;Password=...; and host=db password=... dbname=flights and --password=...
        "a password in a connection string",
        ("password=", "passwd=", "pwd=", "key="),
        r"[^;&\s\"'(),{}\[\]\\]{1,512}+(?=;|\s{1,8}\w{1,32}=|\\?[\"'])",
        before=rf"(?:password|passwd|pwd|accountkey|sharedaccesskey)={_OPEN}",
        any_case=True,
    ),
    Shape(
        "a password on a command line",
        ("--password", "--token", "--api-key", "--secret"),
        r"[^\s\"']{4,}",
        before=rf"--(?:password|token|api-key|secret)[= ]{_OPEN}(?!-)",
        any_case=True,
    ),
    Shape(  # {"password": "..."}, password = "...", and both inside of JSON
        "a secret by its name",
        _NAME_MARKS,
        r"[^\"'\n]{3,4000}[^\"'\n\\](?=\\?[\"'])",
        before=rf"{_NAMES}(?:\\?[\"'])?\]?\s{{0,4}}[:=]\s{{0,4}}\\?[\"']{_OPEN}",
        any_case=True,
    ),
    Shape(  # as `env` prints them; a value of letters alone may be a name in code
        "a secret of the environment",
        ("PASSWORD=", "TOKEN=", "SECRET=", "_KEY="),
        r"(?=[A-Za-z_.-]{0,99}[^A-Za-z_.\s-])[^\s\"'(){}\[\],]{6,}(?=\s|$)",
        before=rf"(?:PASSWORD|TOKEN|SECRET|API_KEY|ACCESS_KEY|PRIVATE_KEY)={_OPEN}",
    ),
)
_EXACT = tuple((mark, shape) for shape in SHAPES if not shape.any_case for mark in shape.marks)
_ANY_CASE = tuple((mark, shape) for shape in SHAPES if shape.any_case for mark in shape.marks)


# ------------------------------------------------------------------------ text
def scrub_text(text: str) -> str:
    """Mask secrets in a text: passwords in URLs, what has a well-known shape, and every remembered value.

    Examples
    --------
    >>> scrub_text("postgresql://ops:hunter2@db/ledger")
    'postgresql://ops:***@db/ledger'
    >>> scrub_text("Server=db;Password=hunter2;Database=flights")
    'Server=db;Password=***;Database=flights'
    """
    text = without_remembered(text)
    if "://" in text and "@" in text:
        text = "://".join(_without_passwords(text.split("://")))
    lowered = _lowered(text)
    for shape in _likely(text, lowered):
        if spans := shape.spans(lowered if shape.any_case else text):
            text = _masked(text, spans)
            lowered = _lowered(text)
    return text


def without_remembered(text: str) -> str:
    """Mask every remembered value in a text, and leave all else as it is.

    Examples
    --------
    >>> with masking(["hunter2"]):
    ...     without_remembered("hunter2 at postgresql://ops:other@db")
    '*** at postgresql://ops:other@db'
    """
    for form in _remembered:
        if form in text:
            text = text.replace(form, MASK)
    return text


def shapes_in(text: str) -> list[str]:
    """Say which kinds of secrets a text holds, by their shapes.

    Examples
    --------
    >>> shapes_in("db = 'postgresql://ops:hunter2@db/x'; key = 'AKIAABCDEFGHIJKLMNOP'")
    ['a password in a URL', 'an AWS access key']
    """
    parts = text.split("://")
    in_url = ["a password in a URL"] if list(_without_passwords(parts)) != parts else []
    lowered = _lowered(text)
    found = [shape.what for shape in _likely(text, lowered) if shape.spans(lowered if shape.any_case else text)]
    return list(dict.fromkeys(in_url + found))


def _likely(text: str, lowered: str) -> Iterable[Shape]:
    """Give the shapes of which a mark is in a text."""
    exact = [shape for mark, shape in _EXACT if mark in text]
    return dict.fromkeys(exact + [shape for mark, shape in _ANY_CASE if mark in lowered])


@functools.cache
def _compiled(shape: Shape) -> re.Pattern[str]:
    return re.compile(f"({shape.before}){shape.pattern}")


def _lowered(text: str) -> str:
    """Give a text with ASCII's letters in lower case and every other as it is: of the same length."""
    return (
        text.lower()
        if text.isascii()
        else text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
    )


def _masked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    ends = [0, *(end for _, end in spans)]
    begins = [*(begin for begin, _ in spans), len(text)]
    return MASK.join(text[end:begin] for end, begin in zip(ends, begins, strict=True))


_AUTHORITY = re.compile(r"([^/\s:@\"'<>]*+):(?!\d{1,5}[/?#])([^\s\"'<>]++)")
_FILLED_IN = re.compile(r"\*\*\*|\{[^{}]*\}|\$\w+|\$\{\w+\}|%s|%\(\w+\)s|")  # the mask, or code that fills a value in


def _without_passwords(parts: Sequence[str]) -> Iterator[str]:
    """Mask the password with which each part of a text begins that was split at ``://``."""
    yield parts[0]
    for part in parts[1:]:
        found = _AUTHORITY.match(part)
        password, at, _ = found[2].rpartition("@") if found else ("", "", "")  # a password may hold / and @
        is_one = found and at and not _FILLED_IN.fullmatch(password)
        yield f"{part[: found.end(1)]}:{MASK}{part[found.start(2) + len(password) :]}" if found and is_one else part


# ---------------------------------------------------------------------- values
def scrub(value: Any, name: str = "") -> Any:
    """Mask secrets in a JSON-like value, by the name it goes by and by its shape.

    A reference (``env:NAME``, ``file:PATH``) is no secret and stays readable.

    Examples
    --------
    >>> scrub({"api_key": "s3cr3t", "token": "env:TOKEN", "month": 3})
    {'api_key': '***', 'token': 'env:TOKEN', 'month': 3}
    """
    if isinstance(value, dict):
        return {scrub_text(key) if isinstance(key, str) else key: scrub(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        inside = [scrub(item, name) for item in value]
        return tuple(inside) if type(value) is tuple else inside
    if isinstance(value, str):
        is_secret = bool(value) and names_secret(name) and not _REFERENCE.match(value)
        return MASK if is_secret else scrub_text(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return MASK if is_number and names_secret(name) else value


def names_secret(name: str) -> bool:
    """Say whether what goes by a name is a secret.

    Examples
    --------
    >>> names_secret("api_key"), names_secret("max_tokens")
    (True, False)
    """
    return _SECRET_NAME.search(name) is not None


# ----------------------------------------------------------- what was remembered
_remembered: tuple[str, ...] = ()  # every form of every value, longest first


def remembers() -> bool:
    """Say whether any value is masked by itself."""
    return bool(_remembered)


def remember(*values: str) -> None:
    """Mask values from now on wherever they appear, and in the forms in which programs show them.

    These are JSON's and Python's escapes, a URL's password, quoting for URLs and HTML, hexadecimal, base64, also
    inside of longer base64, and each line of a value of several. Values of less than four characters are not
    remembered: they are part of other words.

    Examples
    --------
    >>> with masking(["hunter2"]):
    ...     remember("p@ss/word")
    ...     scrub_text("hunter2, aHVudGVyMg==, p%40ss%2Fword")
    '***, ***, ***'
    >>> scrub_text("hunter2")
    'hunter2'
    """
    global _remembered  # noqa: PLW0603  # replaced whole, so that a thread that is masking sees one or the other
    long = [value for value in values if len(value) >= SHORTEST]
    forms = {*_remembered, *(form for value in long for form in _forms(value))}
    _remembered = tuple(sorted(forms, key=lambda form: (-len(form), form)))  # one may be part of another


@contextlib.contextmanager
def masking(values: Iterable[str]) -> Iterator[None]:
    """Mask values wherever they appear, until the block ends; then what was remembered before it is again."""
    global _remembered  # noqa: PLW0603
    before = _remembered
    remember(*values)
    try:
        yield
    finally:
        _remembered = before


def _forms(value: str) -> set[str]:
    """Give the forms in which a value may appear in a text."""
    import html
    import json
    from urllib.parse import quote_from_bytes, quote_plus

    raw = value.encode("utf-8", "surrogatepass")
    quoted = [quote_from_bytes(raw), quote_from_bytes(raw, safe=""), quote_plus(raw)]
    forms = {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        json.dumps(value)[1:-1].replace("/", "\\/"),  # as pandas writes it
        repr(value)[1:-1],
        repr(raw)[2:-1],
        html.escape(value),
        html.escape(value, quote=False),
        *quoted,
        *(re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), each) for each in quoted),
        *_passwords(value),
        *(line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_CODED),
        *(form for form in _coded(raw) if len(form) >= _SHORTEST_CODED),
    }
    return {form for form in forms if len(form) >= SHORTEST}


def _passwords(value: str) -> Iterator[str]:
    """Give the password in a value that is a URL: programs take it out."""
    _, scheme, rest = value.partition("://")
    found = _AUTHORITY.match(rest) if scheme else None
    password = found[2].rpartition("@")[0] if found else ""
    if len(password) >= _SHORTEST_CODED:
        yield password


def _coded(raw: bytes) -> Iterator[str]:
    """Give the hexadecimal and base64 forms of bytes, the latter wherever in longer bytes they begin."""
    import base64

    yield from (raw.hex(), raw.hex().upper())
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode()
        for offset in range(3):
            whole = encode(bytes(offset) + raw).decode().rstrip("=")
            n_bits = 8 * (offset + len(raw))
            yield whole[(0, 2, 3)[offset] : n_bits // 6]
