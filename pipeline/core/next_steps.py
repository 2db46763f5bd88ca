"""The commands that a person runs after `init`: sealing, pushing, starting Argo CD. They are printed, never run."""

import json
import shlex
from collections.abc import Iterator, Mapping

from ruamel.yaml.nodes import Node

from pipeline.core.answers import ORGANISATION, Answers, gitops_url, registry
from pipeline.core.yaml_documents import at, documents, pairs, text_at

CERTIFICATE = "../sealed-secrets.pem"
"""Beside the repository, not in it: it is fetched again when the controller has a new key."""

VALUES = "../values"
"""Where a person puts the values to seal, one file each."""

_CM = "argocd/config/argocd-cm.yaml"


def repository(folder: str, answers: Answers, files: Mapping[str, str], *, new: bool) -> tuple[str, ...]:
    """All steps from the repository, which was made `new` or was there, to a running system and an application."""
    flags = {
        "organisation": (answers.organisation, ORGANISATION),
        "gitops": (answers.gitops_url, gitops_url(answers.organisation)),
        "registry": (answers.registry, registry(answers.organisation)),
    }
    told = "".join(f" --{flag} {shlex.quote(said)}" for flag, (said, usual) in flags.items() if said != usual)
    return (
        f"cd {shlex.quote(folder)}",
        "kubectl apply --server-side --kustomize sealed-secrets",
        "kubectl rollout status deployment/sealed-secrets-controller --namespace kube-system",
        f"kubeseal --fetch-cert > {CERTIFICATE}",
        f"# Have each value to seal in {VALUES}/NAMESPACE/KEY, without a line break at its end.",
        *_login(answers.registry),
        *(
            command
            for file in sorted(files)
            if file.endswith(".sealed.yaml")
            for command in _seal(file, files[file], answers.registry)
        ),
        *_without_vault(files),
        "git add --all && git commit --message 'Seal our own secrets'",
        *((f"git remote add origin {shlex.quote(answers.gitops_url)}",) if new else ()),
        "git push --set-upstream origin HEAD",
        f"kubectl apply --server-side --field-manager openeg --namespace argocd --filename {_CM}",
        "kubectl apply --filename argocd/root.yaml",
        f"python -m pipeline init --app APPLICATION{told}",
    )


def _login(host: str) -> tuple[str, ...]:
    """The commands, for bash or zsh, that ask who pulls images: the password is in no argument of a process."""
    return (
        f"printf 'User who may pull from {host}: ' && read -r user",
        "printf 'Password: ' && read -rs password && echo",
        r"""auth=$(printf %s "$user:$password" | base64 | tr -d '\n')""",
    )


def _seal(file: str, text: str, host: str) -> Iterator[str]:
    """The command that makes the file anew.

    Values come from files of the user's, which stay outside of the repository; the login to the registry comes from
    `_login`, so that no other login of the user's gets into the cluster.
    """
    for tree in documents(file, text):
        template = at(tree.root, "spec", "template")
        name, namespace = text_at(tree.root, "metadata", "name"), text_at(tree.root, "metadata", "namespace")
        kind = text_at(template, "type") or "Opaque"
        keys = [key.value for key, _ in pairs(at(tree.root, "spec", "encryptedData"))]
        login = kind == "kubernetes.io/dockerconfigjson"
        folder = f"{VALUES}/{namespace}"
        values = " ".join(f"--from-file={key}={'/dev/stdin' if login else f'{folder}/{key}'}" for key in keys)
        config = shlex.quote(json.dumps({"auths": {host: {"auth": "%s"}}}))
        yield (
            (f'printf {config} "$auth" | ' if login else "")
            + f"kubectl create secret generic {name} --namespace {namespace} --type {kind} {values} "
            f"--dry-run=client --output yaml{_labels(template)} | "
            f"kubeseal --cert {CERTIFICATE} --format yaml > {shlex.quote(file)}"
        )


def _labels(template: Node | None) -> str:
    labels = " ".join(f"{key.value}={value.value}" for key, value in pairs(at(template, "metadata", "labels")))
    return f" | kubectl label --local --filename - {labels} --output yaml" if labels else ""


def _without_vault(files: Mapping[str, str]) -> Iterator[str]:
    """A line on the services that `init` made, which ask Vault for nothing."""
    deployments = (file for file in sorted(files) if file.startswith("base/deployments/"))
    plain = [file for file in deployments if "vault.hashicorp.com/" not in files[file]]
    if plain:
        yield (
            f"# {', '.join(plain)}: no start command, nothing from Vault; where secrets are needed, add both as the"
            " template has them."
        )


def application() -> tuple[str, ...]:
    """All steps from an application with a workflow to its first deployment."""
    return (
        "git add deploy.yaml .github/workflows/deploy.yml && git commit --message 'Deploy with OpenEG Deploy'",
        "gh secret set GITOPS_TOKEN && gh secret set ARGOCD_AUTH_TOKEN && gh variable set ARGOCD_SERVER",
        "gh secret set REGISTRY_USERNAME && gh secret set REGISTRY_PASSWORD && gh secret set SLACK_BOT_TOKEN",
        "python -m pipeline deploy --dry-run",
        "git push",
    )
