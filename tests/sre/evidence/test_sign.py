from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as other_kind
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sre.errors import CannotRun, EvidenceDamaged
from sre.evidence import sign

PAYLOAD = b'{"_type": "example"}'
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def _pem(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_what_is_signed_is_the_encoding_of_the_specification() -> None:
    # The example of DSSE's protocol.md.
    assert sign.pae("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_an_envelope_opens_with_the_key_that_made_it() -> None:
    envelope = sign.seal(PAYLOAD, KEY)
    assert sign.unseal(envelope, KEY.public_key()) == PAYLOAD
    document = json.loads(envelope)
    assert document["payloadType"] == "application/vnd.in-toto+json"
    assert [item["keyid"] for item in document["signatures"]] == [sign.key_id(KEY.public_key())]


def test_the_id_of_a_key_is_what_openssl_computes(tmp_path: Path) -> None:
    sign.private_key(tmp_path / "key.pem")
    public = sign.public_path(tmp_path / "key.pem")
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", str(public), "-outform", "DER"], capture_output=True, check=True, timeout=30
    )
    digest = subprocess.run(["sha256sum"], input=der.stdout, capture_output=True, check=True, timeout=30)
    assert digest.stdout.split()[0].decode() == sign.key_id(sign.public_key(public))


def test_every_single_byte_of_an_envelope_counts() -> None:
    envelope = sign.seal(PAYLOAD, KEY)
    for place in range(len(envelope)):
        for bit in (1, 32):
            altered = bytearray(envelope)
            altered[place] ^= bit
            with pytest.raises(EvidenceDamaged):
                sign.unseal(bytes(altered), KEY.public_key())


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda envelope: envelope + b"\n",
        lambda envelope: envelope.replace(b"  ", b" "),
        lambda envelope: envelope.replace(b'{\n  "payload"', b'{\n  "note": 1,\n  "payload"'),
        lambda envelope: json.dumps(json.loads(envelope)).encode(),
        lambda envelope: envelope[:-40],
        lambda _: b"",
        lambda _: b"[]",
        lambda _: b"[" * 100_000,
        lambda _: b'{"payload": "", "signatures": []}',
        lambda _: b'{"payload": "", "signatures": {"keyid": 1}}',
        lambda _: b'{"payload": 1, "signatures": [{"keyid": 1, "sig": ""}]}',
        lambda _: b'{"payload": "", "signatures": [{"keyid": ["x"], "sig": ""}]}',
    ],
)
def test_another_writing_of_an_envelope_is_refused(rewrite: object) -> None:
    assert callable(rewrite)
    with pytest.raises(EvidenceDamaged, match=r"envelope|signature"):
        sign.unseal(rewrite(sign.seal(PAYLOAD, KEY)), KEY.public_key())


def test_two_signatures_are_not_one() -> None:
    document = json.loads(sign.seal(PAYLOAD, KEY))
    document["signatures"] *= 2
    with pytest.raises(EvidenceDamaged, match="cannot be read"):
        sign.unseal(json.dumps(document, indent=2).encode() + b"\n", KEY.public_key())


def test_another_key_is_named_and_its_id_alone_does_not_help() -> None:
    other = Ed25519PrivateKey.generate()
    envelope = sign.seal(PAYLOAD, other)
    with pytest.raises(EvidenceDamaged, match=f"is of key '{sign.key_id(other.public_key())}', not of the key"):
        sign.unseal(envelope, KEY.public_key())
    forged = envelope.replace(sign.key_id(other.public_key()).encode(), sign.key_id(KEY.public_key()).encode())
    with pytest.raises(EvidenceDamaged, match="is not by key"):
        sign.unseal(forged, KEY.public_key())


def test_a_signature_over_another_type_is_refused() -> None:
    envelope = json.loads(sign.seal(PAYLOAD, KEY))
    value = KEY.sign(sign.pae("application/json", PAYLOAD))
    forged = sign._envelope(PAYLOAD, envelope["signatures"][0]["keyid"], value)
    with pytest.raises(EvidenceDamaged, match="is not by key"):
        sign.unseal(forged, KEY.public_key())


def test_a_key_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "key.pem"
    before = os.umask(0)
    try:
        made = sign.private_key(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sign.public_path(path).stat().st_mode & 0o777 == 0o644
    content = path.read_bytes()
    assert sign.key_id(sign.private_key(path).public_key()) == sign.key_id(made.public_key())
    assert path.read_bytes() == content
    assert sorted(item.name for item in path.parent.iterdir()) == ["key.pem", "key.pem.pub"]


def test_of_two_first_users_both_sign_with_one_key(tmp_path: Path) -> None:
    line = "import sys; from pathlib import Path; from sre.evidence import sign; sys.stdin.readline(); "
    line += "print(sign.key_id(sign.private_key(Path(sys.argv[1])).public_key()))"
    command = [sys.executable, "-c", line, str(tmp_path / "key.pem")]
    users = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for user in users:
        assert user.stdin is not None
        user.stdin.write("go\n")
        user.stdin.flush()
    ids = {user.communicate(timeout=60)[0].strip() for user in users}
    assert [user.returncode for user in users] == [0] * 4
    assert ids == {sign.key_id(sign.public_key(tmp_path / "key.pem.pub"))}


def test_a_key_that_appears_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    first = sign.private_key(path)
    sign._make(path)
    assert sign.key_id(sign.private_key(path).public_key()) == sign.key_id(first.public_key())
    assert sorted(item.name for item in tmp_path.iterdir()) == ["key.pem", "key.pem.pub"]


def test_a_lost_or_wrong_public_key_is_written_again(tmp_path: Path) -> None:
    key = sign.private_key(tmp_path / "key.pem").public_key()
    _pem(tmp_path / "key.pem.pub", KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    sign.private_key(tmp_path / "key.pem")
    assert sign.key_id(sign.public_key(tmp_path / "key.pem.pub")) == sign.key_id(key)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o666])
def test_a_key_that_others_can_read_is_not_used(tmp_path: Path, mode: int) -> None:
    sign.private_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(mode)
    with pytest.raises(CannotRun, match=f"has mode {mode:o}, so others"):
        sign.private_key(tmp_path / "key.pem")


def test_what_is_no_key_of_the_kind_is_refused(tmp_path: Path) -> None:
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(CannotRun, match="no password"):
        sign.private_key(_pem(tmp_path / "locked.pem", locked))
    with pytest.raises(CannotRun, match="must be an Ed25519 key in PEM"):
        sign.private_key(_pem(tmp_path / "empty.pem", b""))
    other = other_kind(SECP256R1())
    private = _pem(tmp_path / "other.pem", other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(CannotRun, match="another kind than Ed25519"):
        sign.private_key(private)
    with pytest.raises(CannotRun, match="cannot be used"):
        sign.private_key(tmp_path)


def test_what_is_no_public_key_of_the_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match=r"gone\.pem cannot be read .*--key"):
        sign.public_key(tmp_path / "gone.pem")
    sign.private_key(tmp_path / "key.pem")
    with pytest.raises(CannotRun, match="holds no public key"):
        sign.public_key(tmp_path / "key.pem")
    other = other_kind(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(CannotRun, match="another kind than Ed25519"):
        sign.public_key(_pem(tmp_path / "other.pub", other))
