"""Which processes make a lab: their command lines, in the order in which they need each other."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.build import program
from lab.components import COMPONENTS
from lab.processes import Service, answers, listens
from lab.state import LOOPBACK, Lab

ROOT = Path(__file__).resolve().parent.parent

SERVERS = (
    "etcd",
    "etcd-peer",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok",
    "kubelet",
    "redis",
    "git",
    "registry",
    "argocd-server",
    "argocd-server-metrics",
    "argocd-repo-server",
    "argocd-repo-server-metrics",
    "argocd-application-controller-metrics",
    "argocd-applicationset-controller",
    "argocd-applicationset-controller-metrics",
    "argocd-applicationset-controller-probe",
    "argocd-notifications-controller-metrics",
    "sealed-secrets-controller",
    "sealed-secrets-controller-metrics",
)
"""Everything that needs a port."""

_BINARY_NAMES = {"argocd-notifications-controller": "argocd-notifications"}


def cluster(lab: Lab) -> tuple[Service, ...]:
    """Kubernetes: the API server with its store."""
    etcd, peer = lab.url("etcd"), lab.url("etcd-peer")
    own = ("--listen-client-urls", etcd, "--advertise-client-urls", etcd)
    peers = ("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}")
    files = {name: str(lab.folder / name) for name in ("server.crt", "server.key", "accounts.key", "tokens.csv")}
    api = (
        f"--etcd-servers={etcd}",
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        f"--secure-port={lab.ports['kube-apiserver']}",
        f"--tls-cert-file={files['server.crt']}",
        f"--tls-private-key-file={files['server.key']}",
        f"--token-auth-file={files['tokens.csv']}",
        "--authorization-mode=RBAC",
        f"--service-cluster-ip-range={lab.services}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-signing-key-file={files['accounts.key']}",
        f"--service-account-key-file={files['accounts.key']}",
        "--endpoint-reconciler-type=none",
        # Webhooks and aggregated APIs are asked at their endpoints, since no kube-proxy gives Services an address: one
        # without endpoints refuses at once.
        "--enable-aggregator-routing=true",
    )
    ready = answers(lab.url("kube-apiserver", "https") + "/readyz", token=lab.admin, ca=lab.folder / "ca.crt")
    return (
        Service(
            name="etcd",
            command=_found("etcd", "--data-dir", str(lab.folder / "etcd"), *own, *peers, "--unsafe-no-fsync"),
            ready=answers(f"{etcd}/health"),
        ),
        Service(name="kube-apiserver", command=_built("kube-apiserver", *api), ready=ready),
    )


def nodes(lab: Lab) -> tuple[Service, ...]:
    """What makes objects move: controllers, the scheduler, and fake nodes whose pods follow kwok's stages."""
    kubeconfig = f"--kubeconfig={lab.kubeconfig}"
    loopback = (f"--bind-address={LOOPBACK}", "--leader-elect=false")
    controllers = (
        f"--secure-port={lab.ports['kube-controller-manager']}",
        f"--service-account-private-key-file={lab.folder / 'accounts.key'}",
        f"--root-ca-file={lab.folder / 'ca.crt'}",
        "--use-service-account-credentials",
        "--enable-hostpath-provisioner=true",  # claims bind to volumes that nobody mounts
    )
    kwok = (
        "--manage-all-nodes=true",
        "--enable-crds=Stage",
        f"--cidr=10.{lab.network}.0.1/16",
        f"--node-ip={LOOPBACK}",
        f"--node-port={lab.ports['kubelet']}",
        f"--server-address={LOOPBACK}:{lab.ports['kwok']}",
        "--node-lease-duration-seconds=40",
    )
    return (
        Service(
            name="kube-controller-manager",
            command=_built("kube-controller-manager", kubeconfig, *loopback, *controllers),
            ready=listens(lab.ports["kube-controller-manager"]),
        ),
        Service(
            name="kube-scheduler",
            command=_built("kube-scheduler", kubeconfig, *loopback, f"--secure-port={lab.ports['kube-scheduler']}"),
            ready=listens(lab.ports["kube-scheduler"]),
        ),
        Service(
            name="kwok",
            command=_built("kwok", kubeconfig, *kwok),
            ready=answers(lab.url("kwok") + "/healthz"),
        ),
        Service(name="kubelet", command=_ours("lab.kubelet", lab.name), ready=listens(lab.ports["kubelet"])),
    )


def around(lab: Lab) -> tuple[Service, ...]:
    """What Argo CD and a pipeline need beside the cluster: Redis, git over smart HTTP, a registry."""
    config = lab.folder / "registry.json"
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(lab.folder / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": f"{LOOPBACK}:{lab.ports['registry']}", "secret": lab.password},
        "log": {"level": "warn"},
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    memory = ("--save", "", "--appendonly", "no", "--dir", str(lab.folder / "tmp"))
    return (
        Service(
            name="redis",
            command=_found("redis-server", "--bind", LOOPBACK, "--port", str(lab.ports["redis"]), *memory),
            ready=listens(lab.ports["redis"]),
        ),
        Service(
            name="git",
            command=_ours("lab.git_server", str(lab.git_root), str(lab.ports["git"])),
            ready=listens(lab.ports["git"]),
        ),
        Service(
            name="registry",
            command=_found("docker-registry", "serve", str(config)),
            ready=answers(lab.url("registry") + "/v2/"),
        ),
    )


def argocd(lab: Lab) -> tuple[Service, ...]:
    """Argo CD: one binary that takes the part which its name, or a variable in its place, says."""
    home = lab.folder / "argocd"
    for folder in ("tls", "ssh", "gpg/keys", "gpg/source", "plugins"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "ssh/ssh_known_hosts").touch()
    redis = ("--redis", f"{LOOPBACK}:{lab.ports['redis']}")
    repositories = ("--repo-server", f"{LOOPBACK}:{lab.ports['argocd-repo-server']}")
    environment = {
        "KUBECONFIG": str(lab.folder / "kubeconfig-argocd"),
        "ARGOCD_FAKE_IN_CLUSTER": "true",  # `https://kubernetes.default.svc` is then what the kubeconfig names
        "HOME": str(home),
        "PATH": f"{program(COMPONENTS['kustomize']).parent}:{Path(_git()).parent}:/usr/bin:/bin",
        "ARGOCD_GPG_ENABLED": "false",
        "ARGOCD_GNUPGHOME": str(home / "gpg/keys"),
        "ARGOCD_GPG_DATA_PATH": str(home / "gpg/source"),
        "ARGOCD_TLS_DATA_PATH": str(home / "tls"),
        "ARGOCD_SSH_DATA_PATH": str(home / "ssh"),
        "ARGOCD_PLUGINSOCKFILEPATH": str(home / "plugins"),
        "ARGOCD_ASK_PASS_SOCK": str(home / "ask-pass.sock"),  # else all labs of a machine share one
        "HOSTNAME": "argocd-application-controller-0",
    }

    def part(name: str, *flags: str, port: str) -> Service:
        return Service(
            name=name,
            command=_built("argocd", *flags, "--logformat", "text"),
            environment={**environment, "ARGOCD_BINARY_NAME": _BINARY_NAMES.get(name, name)},
            ready=answers(lab.url(port) + "/healthz") if name == "argocd-server" else listens(lab.ports[port]),
        )

    def at(name: str, flag: str = "") -> tuple[str, ...]:
        """Address and port of a server, as most parts take them."""
        return (f"--{flag}address", LOOPBACK, f"--{flag}port", str(lab.ports[name]))

    return (
        part(
            "argocd-repo-server",
            *at("argocd-repo-server"),
            *at("argocd-repo-server-metrics", "metrics-"),
            *redis,
            "--disable-tls",
            port="argocd-repo-server",
        ),
        part(
            "argocd-application-controller",
            *repositories,
            "--repo-server-plaintext",
            *redis,
            "--metrics-port",
            str(lab.ports["argocd-application-controller-metrics"]),
            "--status-processors",
            "4",
            "--operation-processors",
            "4",
            port="argocd-application-controller-metrics",
        ),
        part(
            "argocd-server",
            *at("argocd-server"),
            *at("argocd-server-metrics", "metrics-"),
            "--insecure",
            *repositories,
            "--repo-server-plaintext",
            *redis,
            port="argocd-server",
        ),
        part(
            "argocd-applicationset-controller",
            "--argocd-repo-server",
            repositories[1],
            "--repo-server-plaintext",
            "--metrics-addr",
            f"{LOOPBACK}:{lab.ports['argocd-applicationset-controller-metrics']}",
            "--probe-addr",
            f"{LOOPBACK}:{lab.ports['argocd-applicationset-controller-probe']}",
            "--webhook-addr",
            f"{LOOPBACK}:{lab.ports['argocd-applicationset-controller']}",
            port="argocd-applicationset-controller-probe",
        ),
        part(
            "argocd-notifications-controller",
            "--argocd-repo-server",
            repositories[1],
            "--argocd-repo-server-plaintext",
            "--metrics-port",
            str(lab.ports["argocd-notifications-controller-metrics"]),
            port="argocd-notifications-controller-metrics",
        ),
    )


def everything(lab: Lab) -> tuple[Service, ...]:
    """All processes, those that need nothing first."""
    return (*cluster(lab), *nodes(lab), *around(lab), *argocd(lab))


def _built(name: str, *arguments: str) -> Sequence[str]:
    return (str(program(COMPONENTS[name])), *arguments)


def _found(name: str, *arguments: str) -> Sequence[str]:
    return (shutil.which(name) or name, *arguments)


def _ours(module: str, *arguments: str) -> Sequence[str]:
    return ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", module, *arguments)


def _git() -> str:
    return shutil.which("git") or "/usr/bin/git"
