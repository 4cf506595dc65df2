"""Encrypted connections, and clients that must show a certificate."""

import grpc
import pytest
import trustme

from serving.client import Client
from serving.config import ServeConfig
from serving.server import Server
from tests.export.samples import SCHEMAS, request
from tests.serving.test_server import refusal

RAW = request(SCHEMAS["both"])


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def credentials(authority, client=None):
    """Of a client that trusts an authority, and has a certificate itself where one is given."""
    return grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(),
        client and client.private_key_pem.bytes(),
        client and client.cert_chain_pems[0].bytes(),
    )


def refused(target, credentials):
    with Client(target, "films", credentials=credentials) as client:
        refusal("UNAVAILABLE", ".", lambda: client.predict(None, RAW, timeout=10))


def test_only_clients_of_the_authority_are_let_in(films, authority, tmp_path):
    own = authority.issue_cert("localhost")
    own.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    config = ServeConfig(
        port=0,
        tls_certificate=tmp_path / "certificate.pem",
        tls_key=tmp_path / "key.pem",
        tls_client_ca=tmp_path / "clients.pem",
    )
    server = Server("films", films, config)
    server.start()
    target = f"localhost:{server.port}"
    known, stranger = authority.issue_cert("client.test"), trustme.CA().issue_cert("client.test")
    try:
        with Client(target, "films", credentials=credentials(authority, known)) as client:
            assert client.predict(None, RAW)["click"].shape == (1, 4)
        refused(target, None)
        refused(target, credentials(authority))
        refused(target, credentials(authority, stranger))
        refused(target, credentials(trustme.CA(), known))
    finally:
        server.stop()


@pytest.mark.parametrize(
    "given, message",
    [
        (("tls_certificate",), "tls_certificate and tls_key must be given together"),
        (("tls_key",), "tls_certificate and tls_key must be given together"),
        (("tls_client_ca",), "tls_client_ca needs tls_certificate and tls_key"),
    ],
)
def test_half_of_it_is_an_error(tmp_path, given, message):
    file = tmp_path / "file.pem"
    file.write_text("")
    with pytest.raises(ValueError, match=message):
        ServeConfig(**dict.fromkeys(given, file))


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="tls_key\n.*does not point to a file"):
        ServeConfig(tls_key=tmp_path / "absent.pem")
