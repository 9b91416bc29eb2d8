"""What is a secret, and what only looks like one."""

import base64
import hashlib
import html
import json
import re
import time
import urllib.parse
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nbmlops.scrub import MASK, masking, remember, scrub, scrub_text, shapes_in

LETTERS = "aB3dE5gH7jK9mN1pQ2sT4vW6yZ8bC0dF" * 8


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ops:hun/ter2@db/ledger",
        "postgresql://ops:hunter2@ss@db/ledger",
        "postgresql://db/ledger?user=ops&password=hunter2",
        "http://ops:hunter2@127.0.0.1:5000",
    ],
)
def test_no_part_of_a_password_in_a_url_stays(text: str) -> None:
    assert "hun" not in scrub_text(text)
    assert "ter2" not in scrub_text(text)
    assert MASK in scrub_text(text)


@pytest.mark.parametrize("name", ["password", "pwd", "hf_token", "token", "api_key", "Authorization", "client_secret"])
@pytest.mark.parametrize("value", ["s3cr3t", 12345])
def test_a_secret_is_masked_by_its_name(name: str, value: Any) -> None:
    assert scrub({name: value}) == {name: MASK}


@pytest.mark.parametrize("value", [{"tokenizer": "bert"}, {"max_tokens": 512}, {"token_pattern": r"\w+"}, {"n": 3}])
def test_what_only_sounds_like_one_stays(value: dict[str, Any]) -> None:
    assert scrub(value) == value


def test_keys_and_tuples_are_scrubbed_too() -> None:
    assert scrub({"http://a:hunter2@b": ("http://a:hunter2@b", 1)}) == {"http://a:***@b": ("http://a:***@b", 1)}


# ------------------------------------------------------------------- well-known shapes
PEM = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIEcanary==\n"
SECRETS = {  # each written in pieces: this file holds no text of a secret's shape
    "an AWS access key": ["AKIA" + "ABCDEFGH01234567", "ASIA" + "ABCDEFGH01234567"],
    "an AWS secret key": [f"aws_secret_access_key = '{LETTERS[:40]}'", f'"SecretAccessKey": "{LETTERS[:40]}"'],
    "a GitHub token": ["ghp_" + LETTERS[:36], "ghs_" + LETTERS[:40], "github_pat_" + LETTERS[:22] + "_" + LETTERS[:59]],
    "a GitLab token": ["glpat-" + LETTERS[:20], "glrt-" + LETTERS[:20]],
    "a Slack token": ["xoxb-" + "123456789012-" + LETTERS[:24], "xapp-" + "1-" + LETTERS[:24]],
    "a Slack webhook": ["https://hooks.slack.com/services/" + "T00000000/B00000000/" + LETTERS[:24]],
    "a Google API key": ["AIza" + LETTERS[:35]],
    "a Google client secret": ["GOCSPX-" + LETTERS[:28]],
    "an API key": ["sk-" + LETTERS[:48], "sk-proj-" + LETTERS[:60], "sk-ant-" + "api03-" + LETTERS[:90]],
    "a Stripe key": ["sk_live_" + LETTERS[:24], "rk_test_" + LETTERS[:24]],
    "an npm token": ["npm_" + LETTERS[:36]],
    "a PyPI token": ["pypi-" + "AgEIcHlwaS5vcmc" + LETTERS[:60]],
    "a Hugging Face token": ["hf_" + LETTERS[:34]],
    "a JSON Web Token": [".".join(["eyJ" + LETTERS[:20], "eyJ" + LETTERS[:40], LETTERS[:43]])],
    "a private key": [PEM + "-----END RSA PRIVATE KEY-----", json.dumps(PEM + "-----END RSA PRIVATE KEY-----")],
    "an Azure storage key": [f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={LETTERS[:86]}=="],
    "a header that authorises": ["Authorization: Basic " + LETTERS[:12], "X-Api-Key: " + LETTERS[:20]],
    "a bearer token": ["bearer " + LETTERS[:32]],
    "a secret in a URL's query": [
        f"https://a.org/x?a=1&access_token={LETTERS[:12]}",
        f"?sv=2022&sig={LETTERS[:40]}%3D",
    ],
    "a password in a connection string": [
        f"Server=db;User Id=ops;Password={LETTERS[:12]};",
        f"host=db password={LETTERS[:12]} dbname=x",
        f"'host=db password={LETTERS[:12]}'",
    ],
    "a password on a command line": [f"tool --password={LETTERS[:12]}", f"tool --token {LETTERS[:12]} x"],
    "a secret by its name": [
        f"{{'db_password': '{LETTERS[:12]}'}}",
        f'api_key = "{LETTERS[:12]}"',
        json.dumps({"source": f'headers["api-key"] = "{LETTERS[:12]}"'}),
    ],
    "a secret of the environment": [f"DB_PASSWORD={LETTERS[:12]}", f"A=1\nHF_TOKEN={LETTERS[:12]}\nB=2"],
    "a password in a URL": [f"postgresql://ops:{LETTERS[:12]}@db/x", f"redis://:{LETTERS[:12]}@db"],
}


@pytest.mark.parametrize(("what", "text"), [(what, text) for what, texts in SECRETS.items() for text in texts])
@pytest.mark.parametrize("around", ["{}", "before {} after", "<td>{}</td>", "line\n{}\nline", "x = '{}'"])
def test_a_secret_of_a_well_known_shape_is_masked_and_named(what: str, text: str, around: str) -> None:
    text = around.replace("{}", text)
    scrubbed = scrub_text(text)
    assert MASK in scrubbed
    for hidden in (LETTERS[:12], "ABCDEFGH01234567", "canary"):
        assert hidden not in scrubbed
    assert what in shapes_in(text) or "=" in text  # of two shapes that overlap, one is told
    assert scrub_text(scrubbed) == scrubbed
    assert shapes_in(scrubbed) == []


def test_a_private_key_that_is_cut_off_is_masked_as_far_as_it_goes() -> None:
    cut = "-----BEGIN PRIVATE KEY-----\n" + "\n".join([LETTERS[:64]] * 3)
    assert scrub_text(f"a {cut}") == f"a {MASK}"
    assert "ordinary text" in scrub_text("-----BEGIN PRIVATE KEY----- is how one begins; ordinary text")


def ordinary_output() -> list[str]:
    """What notebooks print every day."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(60, 6)), columns=list("abcdef"))
    frame["key"], frame["token"], frame["secret"] = (
        "k-1",
        "the",
        [hashlib.md5(bytes([i])).hexdigest() for i in range(60)],
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(frame[["a", "b"]], frame["c"] > 0)
    return [
        " ".join(uuid.uuid5(uuid.NAMESPACE_DNS, str(i)).hex for i in range(2000)),
        "\n".join(str(uuid.uuid5(uuid.NAMESPACE_URL, str(i))) for i in range(2000)),
        *(
            ",".join(hashlib.new(kind, bytes([i])).hexdigest() for i in range(250))
            for kind in ("md5", "sha1", "sha512")
        ),
        base64.b64encode(rng.bytes(400_000)).decode(),
        base64.b85encode(rng.bytes(2_000)).decode(),
        base64.urlsafe_b64encode(rng.bytes(40_000)).decode(),
        f"data:image/png;base64,{base64.b64encode(rng.bytes(200_000)).decode()}",
        frame.to_string(),
        frame.to_html(),
        frame.to_json(orient="records"),
        frame.describe().to_csv(),
        repr(model),
        model._repr_html_(),
        "{'max_tokens': 512, 'pad_token': '[PAD]', 'token': 'hello', 'eos_token_id': 2, 'key': 'primary'}",
        "tokenizer.json: 100%|██████████| 466k/466k [00:00<00:00, 5.11MB/s]",
        "Epoch 1/10 - loss: 0.6931 - accuracy: 0.5000 - val_loss: 0.69 (task-0123456789abcdef0123456789abcdef)",
        "http://localhost:8888/lab/tree/a@b, http://127.0.0.1:5000/#/experiments/1/runs/0123456789abcdef, me@x.org",
        '[{"url":"http://localhost:8080/x"},{"mail":"me@x.org"}]',
        "s3://bucket/key=2013/part-00000-3d0b5c1e.snappy.parquet sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483",
        "git+https://github.com/owner/name@0123456789abcdef0123456789abcdef01234567",
        "password = os.environ['DB_PASSWORD']; token = getpass(); connect(host=h, password=password, user=u)",
        "api_key: str = None, secret_key = settings.key, f'{user}:{password}@{host}', f\"postgresql://{u}:{p}@{h}/x\"",
        "def connect(password=None, token='', *, api_key=DEFAULT): ...",
        "headers = {'Authorization': f'Bearer {token}', 'Authorization': 'Bearer ' + token}",
        "pip install sk-learn-contrib-something-or-other; class='sk-estimator-doc-link sk-toggleable__label-arrow'",
        "Basic responsibilities of the bearer include certificates; the password is kept in env:DB_PASSWORD",
        "export TOKEN=$TOKEN; DB_PASSWORD=${PASSWORD}; --password $PASSWORD; api_key = 'env:API_KEY'",
        "ValueError: password authentication failed for user ops; key 'secret' not found; KeyError: 'api_key'",
        "primary_key = 'flight_id', foreign_key='plane', sort_key: 'month', keys=['a', 'b']",
        "<input type='password' name='pw' autocomplete='off'> <a href='?key=a&token_type=x'>",
        "DeprecationWarning: `token=` is deprecated, use `access_token`; see https://docs.example.org/?page=keys#token",
    ]


@pytest.mark.parametrize("text", ordinary_output(), ids=lambda text: f"{text[:30]!r}-{len(text)}")
def test_ordinary_output_stays_as_it_is(text: str) -> None:
    assert scrub_text(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        *(f"{secret[:n]}" for texts in SECRETS.values() for secret in texts[:1] for n in (3, 8, 13)),
        *(
            "password=",
            'password="',
            "password=a ",
            "password = 'a",
            "://a:b",
            "://a:b@",
            "-----BEGIN PRIVATE KEY-----",
        ),
        *("bearer ", "eyJaaaaaaaaaaaa.", "key\\", "secret_access_key ", "--token=", "AKIAABCDEFGHIJKLMN", " ", "-"),
    ],
)
def test_no_text_takes_long(piece: str) -> None:
    """Linear: four times the text takes about four times as long, where a square would be sixteen."""
    small, large = (min(cpu_seconds(piece, n) for _ in range(3)) for n in (50_000, 200_000))
    assert large < max(0.1, 10 * small)


def cpu_seconds(piece: str, n: int) -> float:
    text = (piece * (n // len(piece) + 1))[:n]
    began = time.process_time()
    scrub_text(text)
    return time.process_time() - began


# ---------------------------------------------------------------------------- by value
CANARY = 'p@ss "wörd"/\\+<&>\'\t#%'
FORMS = {
    "itself": str,
    "json": json.dumps,
    "json as read": lambda value: json.dumps(value, ensure_ascii=False),
    "repr": repr,
    "repr of bytes": lambda value: repr(value.encode()),
    "url": urllib.parse.quote,
    "whole url": lambda value: urllib.parse.quote(value, safe=""),
    "form": urllib.parse.quote_plus,
    "lower url": lambda value: re.sub("%..", lambda code: code[0].lower(), urllib.parse.quote(value, safe="")),
    "html": html.escape,
    "hex": lambda value: value.encode().hex(),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "url-safe base64": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [CANARY, "s3cr3t-0815", "ab?>~~"])
def test_a_remembered_value_is_masked_in_every_form(value: str, form: str) -> None:
    written = FORMS[form](value)
    core = written.strip("\"'b")
    with masking([value]):
        assert core not in scrub_text(f"before {written} after")
    assert core in scrub_text(f"before {written} after") or shapes_in(written)


@given(st.binary(max_size=9), st.text(st.characters(codec="utf-8"), min_size=12), st.binary(max_size=9))
def test_a_value_inside_of_longer_base64_is_masked(before: bytes, value: str, after: bytes) -> None:
    whole = base64.b64encode(before + value.encode() + after).decode()
    with masking([value]):
        left = scrub_text(whole)
    assert MASK in left
    assert len(left) <= len(whole) - len(value.encode()) * 8 // 6 + len(MASK) + 4


@given(st.lists(st.text(min_size=4), min_size=1, max_size=4), st.text())
def test_no_remembered_value_stays(values: list[str], text: str) -> None:
    with masking(values):
        scrubbed = scrub_text(text + "".join(values))
    assert not any(value in scrubbed for value in values if "*" not in value)


def test_the_longest_value_is_masked_first_and_short_ones_never() -> None:
    with masking(["hunter2", "hunter2-and-more", "abc"]):
        assert scrub_text("hunter2-and-more, hunter2, abc") == "***, ***, abc"


def test_a_value_of_many_lines_is_masked_line_by_line() -> None:
    with masking(["first-line-of-it\nsecond-line-of-it\nx"]):
        assert scrub_text("1: second-line-of-it\n2: first-line-of-it x") == "1: ***\n2: *** x"


def test_what_is_remembered_while_masking_is_forgotten_with_it() -> None:
    with masking(["hunter2"]):
        remember("hunter3")
        assert scrub(["hunter2", "hunter3"]) == ["***", "***"]
    assert scrub(["hunter2", "hunter3"]) == ["hunter2", "hunter3"]
