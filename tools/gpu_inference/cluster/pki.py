"""The keys and certificates of one control plane, in kubeadm's layout, valid for a year."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = datetime.timedelta(days=365)
_CLOCK_SKEW = datetime.timedelta(hours=1)
# First address of the service range: what pods know as kubernetes.default.svc.
_SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1")

# name -> (issuer, common name, organizations, names served; none: a client certificate)
_LEAVES: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = {
    "apiserver": ("ca", "kube-apiserver", (), _SERVER_NAMES),
    "etcd-server": ("ca", "etcd", (), ("localhost", "127.0.0.1")),
    "etcd-client": ("ca", "kube-apiserver-etcd-client", (), ()),
    "admin": ("ca", "gpu-inference-admin", ("system:masters",), ()),
    "kube-controller-manager": ("ca", "system:kube-controller-manager", (), ()),
    "kube-scheduler": ("ca", "system:kube-scheduler", (), ()),
    "kwok": ("ca", "kwok", ("system:masters",), ()),
    "prometheus": ("ca", "prometheus", ("system:masters",), ()),
    "front-proxy-client": ("front-proxy-ca", "front-proxy-client", (), ()),
}


class Pki:
    """Writes `<name>.crt` and `<name>.key` files into `folder` (private), and kubeconfigs that hold them inline."""

    def __init__(self, folder: Path, served: Sequence[str] = ()) -> None:
        """`served` are the DNS names of the metrics adapter's certificate ("adapter")."""
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True)
        authorities = {name: self._authority(name) for name in ("ca", "front-proxy-ca")}
        leaves = {**_LEAVES, "adapter": ("ca", "metrics-adapter", (), (*served, "127.0.0.1"))}
        for name, (issuer, common_name, organizations, names) in leaves.items():
            self._leaf(name, authorities[issuer], common_name, organizations, names)
        self._service_account_key()

    def crt(self, name: str) -> Path:
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def kubeconfig(self, user: str, server: str, path: Path) -> Path:
        """Writes a kubeconfig for the client certificate `user` of the API server at `server` (a URL)."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "embedded",
            "clusters": [
                {"name": "embedded", "cluster": {"server": server, "certificate-authority-data": _b64(self.crt("ca"))}}
            ],
            "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": user}}],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": _b64(self.crt(user)),
                        "client-key-data": _b64(self.key(user)),
                    },
                }
            ],
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def _authority(self, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        subject = _name(f"gpu-inference-{name}", ())
        builder = _builder(subject, subject, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        certificate = builder.add_extension(usage, True).sign(key, hashes.SHA256())
        self._write(name, certificate, key)
        return certificate, key

    def _leaf(
        self,
        name: str,
        issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
        common_name: str,
        organizations: Sequence[str],
        names: Sequence[str],
    ) -> None:
        certificate, issuer_key = issuer
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name, organizations), certificate.subject, key)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if names:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        self._write(name, builder.sign(issuer_key, hashes.SHA256()), key)

    def _service_account_key(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self._write_key("sa", key)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.folder / "sa.pub").write_bytes(public)

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.crt(name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._write_key(name, key)

    def _write_key(self, name: str, key: ec.EllipticCurvePrivateKey) -> None:
        path = self.key(name)
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _CLOCK_SKEW).not_valid_after(now + _LIFETIME)


def _name(common_name: str, organizations: Sequence[str]) -> x509.Name:
    attributes: list[Any] = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, value) for value in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _b64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
