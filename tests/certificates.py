"""Throw-away certificates and tokens: a CA of one test run's own, and what it signs."""

import base64
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
KEY_BITS = 2048


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=KEY_BITS)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, PEM, in two files and in one (as Kafka's key stores want it)."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Signs for as long as a test runs; *folder* gets the files."""

    def __init__(self, folder: Path, name: str = "throw-away CA") -> None:
        self._folder = folder
        self._key = _key()
        self._name = _name(name)
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / f"{name.replace(' ', '-')}.pem"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def identity(
        self,
        name: str,
        *,
        host: str = "127.0.0.1",
        expired: bool = False,
        password: bytes | None = None,
    ) -> Identity:
        """A certificate for *name* at *host*, good for both sides of TLS."""
        key = _key()
        end = datetime.now(UTC) + (-DAY if expired else DAY)
        place = x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - 10 * DAY)
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([place]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        encryption: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
        certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        return Identity(
            self._write(f"{name}.crt", certificate_pem),
            self._write(f"{name}.key", key_pem),
            self._write(f"{name}.pem", key_pem + certificate_pem),
        )

    def _write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path


class TokenIssuer:
    """Issues JSON web tokens, RS256; brokers are told its public key by a file."""

    def __init__(self, key_id: str = "k1") -> None:
        self._key = _key()
        self._key_id = key_id

    def key_set(self) -> str:
        """The public key as a JWK set."""
        numbers = self._key.public_key().public_numbers()
        key = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self._key_id,
            "n": _base64(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
            "e": _base64(numbers.e.to_bytes(3, "big")),
        }
        return json.dumps({"keys": [key]})

    def token(self, subject: str, *, lifetime_seconds: float = 3600.0) -> str:
        """A token for *subject*, from now on."""
        now = int(time.time())
        head = {"alg": "RS256", "typ": "JWT", "kid": self._key_id}
        claims = {
            "sub": subject,
            "iss": "throw-away",
            "aud": "kafka",
            "iat": now - 5,
            "exp": now + int(lifetime_seconds),
            "scope": "kafka",
        }
        signed = f"{_base64(json.dumps(head).encode())}.{_base64(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
