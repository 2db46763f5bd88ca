"""One lab: its folder on disk, and what was chosen when it was made: ports, addresses, keys and tokens."""

import base64
import fcntl
import ipaddress
import json
import random
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.build import HOME
from pipeline.errors import UsageError

LABS = HOME / "labs"
LOOPBACK = "127.0.0.1"
_PORTS = range(20_000, 30_000)  # below the ports that the kernel gives to outgoing connections
_YEARS = timedelta(days=3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A lab that has been made; its processes may or may not run."""

    name: str
    ports: Mapping[str, int]
    network: int
    """Fake pods have addresses in 10.NETWORK.0.0/16, Services in the /16 after it."""
    admin: str
    """The token of the API server's administrator."""
    password: str
    """Of Argo CD's administrator."""

    @property
    def folder(self) -> Path:
        """All that this lab keeps."""
        return LABS / self.name

    @property
    def logs(self) -> Path:
        """What its processes wrote, a file each."""
        return self.folder / "logs"

    @property
    def kubeconfig(self) -> Path:
        """For people and tests: the administrator."""
        return self.folder / "kubeconfig"

    @property
    def git_root(self) -> Path:
        """The bare repositories that its git server serves."""
        return self.folder / "git"

    @property
    def pods(self) -> str:
        """The network of fake pods."""
        return f"10.{self.network}.0.0/16"

    @property
    def services(self) -> str:
        """The network of Services."""
        return f"10.{self.network + 1}.0.0/16"

    def url(self, service: str, scheme: str = "http") -> str:
        """The address of one of its servers."""
        return f"{scheme}://{LOOPBACK}:{self.ports[service]}"

    def token(self, account: str) -> str:
        """The token of an Argo CD account. Raises UsageError before the lab was up."""
        try:
            return (self.folder / f"{account}.token").read_text()
        except FileNotFoundError:
            raise UsageError("Argo CD has given no token yet", remedy="Run `scripts/lab up`.") from None


def find(name: str) -> Lab | None:
    """The lab of that name; None when there is none."""
    try:
        return Lab(**json.loads((LABS / name / "lab.json").read_text()))
    except FileNotFoundError:
        return None


def make(name: str, servers: Iterable[str]) -> Lab:
    """A new lab with free ports for `servers`."""
    with _alone():
        taken = {port for lab in everyone() for port in lab.ports.values()}
        networks = {lab.network for lab in everyone()} | _routed()
        lab = Lab(
            name=name,
            ports=dict(zip(servers, _free_ports(taken), strict=False)),
            network=next(number for number in range(100, 250, 2) if not {number, number + 1} & networks),
            admin=secrets.token_hex(16),
            password=secrets.token_hex(12),
        )
        for folder in (lab.folder, lab.logs, lab.git_root, lab.folder / "run", lab.folder / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        lab.folder.chmod(0o700)
        _write_keys(lab)
        (lab.folder / "lab.json").write_text(json.dumps(asdict(lab), indent=2))  # last: what is there is whole
    return lab


def everyone() -> Iterator[Lab]:
    """All labs of this machine."""
    for file in LABS.glob("*/lab.json"):
        if lab := find(file.parent.name):
            yield lab


def remove(lab: Lab) -> None:
    """Forget a lab whose processes have ended."""
    shutil.rmtree(lab.folder)


@contextmanager
def _alone() -> Iterator[None]:
    """Two labs that are made at once must not choose the same ports."""
    LABS.mkdir(parents=True, exist_ok=True)
    with (LABS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _free_ports(taken: set[int]) -> Iterator[int]:
    for port in random.sample(_PORTS, len(_PORTS)):
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        yield port


def _routed() -> set[int]:
    """The second numbers of networks 10.N that this machine has routes to."""
    if shutil.which("ip") is None:
        return set()
    routes = subprocess.run(("ip", "route", "show", "table", "all"), capture_output=True, text=True, check=False).stdout
    return {int(word.split(".")[1]) for word in routes.split() if word.startswith("10.")}


def _write_keys(lab: Lab) -> None:
    """A certificate authority, the API server's certificate, the key that signs service accounts, and kubeconfigs."""
    now = datetime.now(UTC)
    authority, server, accounts = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    issuer = _name(f"lab {lab.name}")
    base = x509.CertificateBuilder().issuer_name(issuer).not_valid_before(now).not_valid_after(now + _YEARS)
    own = base.subject_name(issuer).public_key(authority.public_key()).serial_number(x509.random_serial_number())
    root = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
        authority, hashes.SHA256()
    )
    dns = [x509.DNSName(name) for name in ("localhost", "kubernetes", "kubernetes.default.svc")]
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in (LOOPBACK, f"10.{lab.network + 1}.0.1")]
    theirs = base.subject_name(_name("kube-apiserver")).public_key(server.public_key())
    certificate = (
        theirs.serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName([*dns, *addresses]), critical=False)
        .sign(authority, hashes.SHA256())
    )
    ca = root.public_bytes(serialization.Encoding.PEM)
    files = {
        "ca.crt": ca,
        "server.crt": certificate.public_bytes(serialization.Encoding.PEM),
        "server.key": _pem(server),
        "accounts.key": _pem(accounts),
        "tokens.csv": f'{lab.admin},admin,admin,"system:masters"\n'.encode(),
        "kubeconfig": _kubeconfig(lab, ca, "default"),
        "kubeconfig-argocd": _kubeconfig(lab, ca, "argocd"),
    }
    for file, content in files.items():
        (lab.folder / file).touch(mode=0o600)
        (lab.folder / file).write_bytes(content)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _kubeconfig(lab: Lab, ca: bytes, namespace: str) -> bytes:
    cluster = {
        "server": lab.url("kube-apiserver", "https"),
        "certificate-authority-data": base64.b64encode(ca).decode(),
    }
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": lab.admin}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin", "namespace": namespace}}],
            "current-context": "lab",
        },
        indent=2,
    ).encode()
