"""Signatures: a key pair of the toolkit's own, and the envelope that carries a signed document.

The envelope is DSSE 1.0.0 (https://github.com/secure-systems-lab/dsse) with one Ed25519 signature (RFC 8032). A signature says
who wrote a document, not that it is true: whoever can read the private key can sign anything, so evidence that must convince
others is checked with a public key that they were given beforehand.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from base64 import b64decode, b64encode
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from sre.errors import CannotRun, EvidenceDamaged

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file; key and public key are made when there is none.

    Of two processes that make one at the same moment the first wins and both use its key.

    Raises:
        CannotRun: the file is no Ed25519 key in PEM, others can read it, or it cannot be read or made.
    """
    try:
        if not path.exists():
            _make(path)
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise CannotRun(f"the signing key {path} cannot be used ({error.strerror}); let SRE_SIGNING_KEY name a file") from error
    if mode & 0o077:
        raise CannotRun(f"the signing key {path} has mode {mode & 0o777:o}, so others can sign with it; remove it or chmod 600")
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CannotRun(f"the signing key {path} cannot be read; it must be an Ed25519 key in PEM, no password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CannotRun(f"the signing key {path} is of another kind than Ed25519; let SRE_SIGNING_KEY name another file")
    _publish(public_path(path), key.public_key())
    return key


def public_path(path: Path) -> Path:
    """Where the public key lies: beside the private one, its name with `.pub` behind it."""
    return path.with_name(path.name + ".pub")


def public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a file.

    Raises:
        CannotRun: the file is missing or is no Ed25519 public key in PEM.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise CannotRun(f"the public key {path} cannot be read ({error.strerror}); name the signer's with --key") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CannotRun(f"{path} holds no public key in PEM; name the signer's with --key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise CannotRun(f"the public key {path} is of another kind than Ed25519; name the signer's with --key")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo in DER, hexadecimal."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def pae(kind: str, body: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding of a payload and its type."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(body), body)


def seal(payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """The envelope around a payload of `PAYLOAD_TYPE`, as JSON."""
    return _envelope(payload, key_id(key.public_key()), key.sign(pae(PAYLOAD_TYPE, payload)))


def unseal(envelope: bytes, key: Ed25519PublicKey) -> bytes:
    """The payload of an envelope that `seal` made with this very key; not one byte of the envelope may differ.

    Raises:
        EvidenceDamaged: it is no such envelope, is signed with another key, or was altered.
    """
    try:
        document = json.loads(envelope)
        (signature,) = document["signatures"]
        payload, keyid = b64decode(document["payload"], validate=True), signature["keyid"]
        value = b64decode(signature["sig"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise EvidenceDamaged(f"the signature's envelope cannot be read ({type(error).__name__})") from error
    if keyid != key_id(key):
        raise EvidenceDamaged(f"the signature is of key {str(keyid)[:64]!r}, not of the key it is checked with, {key_id(key)}")
    # A comparison of the whole, since spaces, other base64 and fields beside the signature would pass the signature alone.
    if envelope != _envelope(payload, keyid, value):
        raise EvidenceDamaged("the signature's envelope is not as it was written")
    try:
        key.verify(value, pae(PAYLOAD_TYPE, payload))
    except InvalidSignature as error:
        raise EvidenceDamaged(f"the signature is not by key {keyid}: it or what it signs was altered") from error
    return payload


def _envelope(payload: bytes, keyid: str, value: bytes) -> bytes:
    signature = {"keyid": keyid, "sig": b64encode(value).decode()}
    document = {"payload": b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    return json.dumps(document, indent=2).encode() + b"\n"


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # A temporary file has mode 600 from its first moment. A link never replaces, so a key that was used is never lost.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(file.name, path)


def _publish(path: Path, key: Ed25519PublicKey) -> None:
    content = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if path.is_file() and path.read_bytes() == content:
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
