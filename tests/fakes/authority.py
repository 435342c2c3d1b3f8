"""Certificates for tests of TLS."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


class Authority:
    """A throw-away certificate authority, made with the openssl command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-days", "2", "-subj", "/CN=Test authority",
        )  # fmt: skip

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def issue(self, name: str, alternative: str, days: int = 2) -> tuple[Path, Path]:
        """A certificate and its key for one host."""
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={alternative}\n")
        self._openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out",
            f"{name}.csr", "-subj", f"/CN={name}",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", f"{name}.pem", "-days", str(days), "-extfile",
            f"{name}.ext",
        )  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


def server_context(certificate: tuple[Path, Path], client_ca: Path | None = None) -> ssl.SSLContext:
    """A server's side of TLS; with CLIENT_CA only for clients that it has certified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context
