"""Certificates for tests, signed by a test CA."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True)
class Authority:
    """A CA. folder: where it writes its PEM files."""

    folder: Path
    name: str

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def file(self) -> Path:
        """The CA certificate."""
        certificate = self._certificate(self.name, self._key, days=1, is_authority=True)
        return self._write(f"{self.name}.crt", certificate.public_bytes(Encoding.PEM))

    def sign(self, common_name: str, *, days: int = 1) -> tuple[Path, Path]:
        """A certificate for a host or a user, and its key. days: validity; if negative, it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(common_name, key, days=days, is_authority=False)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        name = f"{self.name}-{common_name}{days}"
        return self._write(f"{name}.crt", certificate.public_bytes(Encoding.PEM)), self._write(f"{name}.key", pem)

    def _certificate(
        self, common_name: str, key: ec.EllipticCurvePrivateKey, *, days: int, is_authority: bool
    ) -> x509.Certificate:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(_name(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - datetime.timedelta(days=30))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
            # Since Python 3.13 ssl.VERIFY_X509_STRICT is a default: a certificate must identify the key that signed
            # it, and a CA must have a key usage (RFC 5280, sections 4.2.1.1 to 4.2.1.3).
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(_key_usage(is_authority=is_authority), critical=True)
        )
        return builder.sign(self._key, SHA256())

    def _write(self, name: str, pem: bytes) -> Path:
        file = self.folder / name
        file.write_bytes(pem)
        file.chmod(0o600)
        return file
