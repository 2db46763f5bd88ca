"""What the lab is built from, at which version. Nothing is patched."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One program of a Go module."""

    name: str
    module: str
    version: str
    package: str
    """The folder of the main package within the module; "" for its root."""
    stamps: Mapping[str, str] = field(default_factory=dict)
    """Variables that the linker sets, by full name: the version that the program tells."""
    published: Mapping[str, str] = field(default_factory=dict)
    """The versions to take of the modules that its go.mod replaces by folders, by their paths; `*` matches any text."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Files of the module that the lab needs when it runs, by the name that they are kept under."""

    @property
    def key(self) -> str:
        """What the binary is cached as."""
        return f"{self.name}@{self.version}"


_KUBERNETES = "v1.33.13"
_KWOK = "v0.7.0"
_ARGOCD = "v3.1.16"
_VAULT = "v1.21.1"
_ARGOCD_COMMON = "github.com/argoproj/argo-cd/v3/common"


def _kubernetes(name: str) -> Component:
    return Component(
        name=name,
        module="k8s.io/kubernetes",
        version=_KUBERNETES,
        package=f"cmd/{name}",
        stamps={
            "k8s.io/component-base/version.gitVersion": _KUBERNETES,
            "k8s.io/component-base/version.gitMajor": _KUBERNETES[1:].split(".", maxsplit=1)[0],
            "k8s.io/component-base/version.gitMinor": _KUBERNETES[1:].split(".")[1],
            "k8s.io/client-go/pkg/version.gitVersion": _KUBERNETES,
        },
        published={"k8s.io/*": _KUBERNETES.replace("v1.", "v0.")},
    )


def _sealed_secrets(name: str, package: str) -> Component:
    version = "v0.27.1"
    return Component(
        name=name,
        module="github.com/bitnami-labs/sealed-secrets",
        version=version,
        package=package,
        stamps={"main.VERSION": version[1:]},
        kept={"sealedsecret.crd.yaml": "helm/sealed-secrets/crds/bitnami.com_sealedsecrets.yaml"},
    )


# In this order: each build finds much of what it needs in the caches of those above it.
CORE = (
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    Component(
        name="kwok",
        module="sigs.k8s.io/kwok",
        version=_KWOK,
        package="cmd/kwok",
        stamps={"sigs.k8s.io/kwok/pkg/consts.Version": _KWOK},
        kept={"stages.crd.yaml": "kustomize/crd/bases/kwok.x-k8s.io_stages.yaml"},
    ),
    Component(
        name="argocd",
        module="github.com/argoproj/argo-cd/v3",
        version=_ARGOCD,
        package="cmd",
        stamps={
            f"{_ARGOCD_COMMON}.version": _ARGOCD[1:],
            f"{_ARGOCD_COMMON}.gitTreeState": "clean",
            f"{_ARGOCD_COMMON}.buildDate": "1970-01-01T00:00:00Z",
        },
        kept={
            f"{kind}.crd.yaml": f"manifests/crds/{kind}-crd.yaml"
            for kind in ("application", "appproject", "applicationset")
        },
    ),
    # Argo CD's repo-server renders with it; so do tests.
    Component(name="kustomize", module="sigs.k8s.io/kustomize/kustomize/v5", version="v5.7.1", package=""),
)

# What other tests use.
TOOLS = (
    Component(name="buildx", module="github.com/docker/buildx", version="v0.38.2", package="cmd/buildx"),
    Component(name="buildkitd", module="github.com/moby/buildkit", version="v0.34.2", package="cmd/buildkitd"),
    _sealed_secrets("sealed-secrets-controller", "cmd/controller"),
    _sealed_secrets("kubeseal", "cmd/kubeseal"),
    Component(name="kubeconform", module="github.com/yannh/kubeconform", version="v0.7.0", package="cmd/kubeconform"),
    # Of Prometheus v3.11.3, which the GitOps template runs. Debian's is built without Kubernetes' service discovery.
    Component(name="promtool", module="github.com/prometheus/prometheus", version="v0.311.3", package="cmd/promtool"),
    Component(
        name="vault",
        module="github.com/hashicorp/vault",
        version=_VAULT,
        package="",
        stamps={"github.com/hashicorp/vault/version.fullVersion": _VAULT[1:]},
        # Later releases of 1.21 match no published sdk.
        published={
            "github.com/hashicorp/vault/sdk": "v0.20.0",
            "github.com/hashicorp/vault/api": "v1.22.0",
            "github.com/hashicorp/vault/api/auth/kubernetes": "v0.10.0",
            "github.com/hashicorp/vault/api/auth/approle": "v0.11.0",
            "github.com/hashicorp/vault/api/auth/userpass": "v0.11.0",
        },
    ),
    # What runs workflows without GitHub, and what reads them.
    Component(name="act", module="github.com/nektos/act", version="v0.2.89", package=""),
    Component(name="actionlint", module="github.com/rhysd/actionlint", version="v1.7.7", package="cmd/actionlint"),
)

COMPONENTS: Mapping[str, Component] = {component.name: component for component in (*CORE, *TOOLS)}

DEBIAN = {"etcd": "etcd-server", "redis-server": "redis-server", "docker-registry": "docker-registry"}
"""Programs that come from the distribution, and Debian's packages of them."""
