"""What is a secret, and what only looks like one."""

from typing import Any

import pytest

from nbmlops.scrub import MASK, scrub, scrub_text


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
