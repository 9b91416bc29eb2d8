import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.errors import DataError
from nbmlops.registry.manifest import ManifestFile, differences, digest_of, manifest_of

FILES = st.dictionaries(st.text("abc/", min_size=1, max_size=4), st.text("0123", min_size=1, max_size=2), max_size=4)


def as_manifest(files: dict[str, str]) -> tuple[ManifestFile, ...]:
    return tuple(ManifestFile(path, sha, 1) for path, sha in files.items())


def test_manifest_hashes_every_file_of_every_subfolder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "MLmodel").write_bytes(b"flavors: {}")
    (tmp_path / "data" / "model.skops").write_bytes(b"\x00\x01")
    found = manifest_of(tmp_path)
    assert [(file.path, file.size_bytes) for file in found] == [("MLmodel", 11), ("data/model.skops", 2)]
    assert found[1].sha256 == hashlib.sha256(b"\x00\x01").hexdigest()


def test_manifest_refuses_a_link(tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="model is a link"):
        manifest_of(tmp_path)


@given(FILES)
def test_digest_does_not_depend_on_the_order_of_files(files: dict[str, str]) -> None:
    manifest = as_manifest(files)
    assert digest_of(manifest) == digest_of(manifest[::-1])


@given(FILES, FILES)
def test_two_manifests_differ_exactly_when_their_digests_do(one: dict[str, str], two: dict[str, str]) -> None:
    a, b = as_manifest(one), as_manifest(two)
    assert bool(differences(a, b)) == (digest_of(a) != digest_of(b))
    assert len(differences(a, b)) == len(differences(b, a))
