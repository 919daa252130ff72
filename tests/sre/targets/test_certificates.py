from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sre.targets.certificates import Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def chain(folder: Path, signer: Authority, name: str, *, client: bool = False) -> Path:
    certificate, key = signer.issue(name, client=client)
    path = folder / f"{name}.pem"
    path.write_bytes(key.encode() + certificate)
    return path


def talk(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1") -> bytes:
    """What the client hears over a connection in which both have shown what they must."""
    client_bio, server_bio = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    ends = [
        (client.wrap_bio(*client_bio, server_hostname=name), client_bio[1], server_bio[0]),
        (server.wrap_bio(*server_bio, server_side=True), server_bio[1], client_bio[0]),
    ]
    for _ in range(4):
        for end, out, into in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            finally:
                into.write(out.read())
    ends[1][0].write(b"heard")
    client_bio[0].write(server_bio[1].read())
    return ends[0][0].read()


def member(folder: Path, authority: Authority) -> ssl.SSLContext:
    """A server that asks its clients for a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(chain(folder, authority, "member", client=True))
    return context


def test_the_authority_signs_for_this_machine_and_nothing_that_signs(authority: Authority) -> None:
    pem, _ = authority.issue("server")
    root, server = (x509.load_pem_x509_certificate(text) for text in (authority.pem, pem))
    server.verify_directly_issued_by(root)
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not server.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_servers_are_asked_by_names_and_by_addresses(authority: Authority) -> None:
    server = x509.load_pem_x509_certificate(authority.issue("store", hosts=("store.example", "10.77.0.1"))[0])
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["store.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.77.0.1", "127.0.0.1"]


def test_only_who_is_meant_to_may_show_it_to_servers(authority: Authority) -> None:
    def usages(*, client: bool) -> list[x509.ObjectIdentifier]:
        certificate = x509.load_pem_x509_certificate(authority.issue("one", client=client)[0])
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)

    assert usages(client=False) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert usages(client=True) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


def test_no_two_certificates_share_a_key_or_a_number(authority: Authority) -> None:
    issued = [authority.issue("same") for _ in range(3)]
    assert len({key for _, key in issued}) == 3
    assert len({x509.load_pem_x509_certificate(pem).serial_number for pem, _ in issued}) == 3


def test_members_prove_themselves_to_each_other(authority: Authority, tmp_path: Path) -> None:
    client = ssl.create_default_context(cadata=authority.pem.decode())
    client.load_cert_chain(chain(tmp_path, authority, "other", client=True))
    for name in ("127.0.0.1", "localhost"):
        assert talk(member(tmp_path, authority), client, name) == b"heard"


@pytest.mark.parametrize("shown", ["nothing", "a server's", "a stranger's"])
def test_who_cannot_prove_itself_is_refused(authority: Authority, tmp_path: Path, shown: str) -> None:
    client = ssl.create_default_context(cadata=authority.pem.decode())
    if shown == "a server's":
        client.load_cert_chain(chain(tmp_path, authority, "server"))
    if shown == "a stranger's":
        client.load_cert_chain(chain(tmp_path, Authority(), "stranger", client=True))
    with pytest.raises(ssl.SSLError, match=r"PEER_DID_NOT_RETURN_A_CERTIFICATE|CERTIFICATE_VERIFY_FAILED"):
        talk(member(tmp_path, authority), client)


@pytest.mark.parametrize(
    ("trusted", "name"), [("another", "127.0.0.1"), ("the same", "elsewhere.example"), ("the same", "127.0.0.2")]
)
def test_a_server_of_another_authority_or_name_is_not_believed(
    authority: Authority, tmp_path: Path, trusted: str, name: str
) -> None:
    known = authority if trusted == "the same" else Authority()
    client = ssl.create_default_context(cadata=known.pem.decode())
    client.load_cert_chain(chain(tmp_path, authority, "other", client=True))
    with pytest.raises(ssl.SSLCertVerificationError):
        talk(member(tmp_path, authority), client, name)
