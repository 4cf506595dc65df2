"""The address that a server listens on, open or encrypted."""

from __future__ import annotations

import grpc

from serving.config import ServeConfig


def listen(server: grpc.Server, config: ServeConfig) -> int:
    """Binds a server's port and returns it.

    Args:
        server: not started yet.
        config: the address, and the certificate, key and client authorities of TLS.

    Raises:
        RuntimeError: the port is taken, or the certificate and the key do not fit.
        OSError: a file cannot be read.
    """
    address = f"{config.host}:{config.port}"
    if config.tls_certificate is None:
        return server.add_insecure_port(address)
    authorities = config.tls_client_ca and config.tls_client_ca.read_bytes()
    credentials = grpc.ssl_server_credentials(
        [(config.tls_key.read_bytes(), config.tls_certificate.read_bytes())],
        root_certificates=authorities,
        require_client_auth=authorities is not None,
    )
    return server.add_secure_port(address, credentials)
