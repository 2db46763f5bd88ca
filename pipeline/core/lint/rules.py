"""ONE table of rules: id, severity, what it says, why, and how to mend it.

The pages in docs/reference/lint and SARIF's metadata are made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.core.lint.finding import Severity

PAGES = "https://github.com/openeg/deploy/blob/main/docs/reference/lint/"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `why` and `mend` are Markdown."""

    id: str
    severity: Severity
    title: str
    why: str
    mend: str

    @property
    def page(self) -> str:
        """The address of its page."""
        return f"{PAGES}{self.id}.md"


def _table(*rules: Rule) -> Mapping[str, Rule]:
    return {rule.id: rule for rule in rules}


RULES = _table(
    # images
    Rule(
        "image-tag-missing",
        "error",
        "An image has neither tag nor digest",
        "Without a tag the runtime pulls `latest`: what runs depends on when a node pulled it, and no commit says"
        " what it was.",
        "Write a full version or a commit hash as tag, or a digest. In a kustomize base a bare name is fine where"
        " every overlay sets `newTag` by an `images:` entry of the same name.",
    ),
    Rule(
        "image-tag-mutable",
        "error",
        "An image's tag is one that moves",
        "`latest`, `main` or `alpine` mean another image tomorrow. Two pods of one Deployment can then run "
        "different code, a rollback brings nothing back, and git no longer says what runs.",
        "Deploy your own images by full commit hash (`python -m pipeline bump`), those of others by full version,"
        " such as `redis:7.4.2-alpine`. A digest (`image@sha256:…`) pins any of them.",
    ),
    Rule(
        "image-tag-partial",
        "warning",
        "An image's tag is no full version",
        "Most projects move tags like `7` and `7.4` to each new patch release, so that a restart can bring "
        "another image.",
        "Write the full version, such as `7.4.2`. Some projects publish only two parts (PostgreSQL's `17.2`) or a"
        " bare build number: there add the digest, or allow the tag with that reason.",
    ),
    Rule(
        "image-registry-unknown",
        "error",
        "An image comes from a registry that is not allowed",
        "Whoever controls the registry controls what runs in the cluster. `lint.registries` in "
        "`.deploy/config.yaml` lists those that are trusted; where there is no such list the rule says nothing.",
        "Mirror the image into an allowed registry and set `newName`, or add the registry (`HOST` or `HOST/PATH`)"
        " to `lint.registries` after a review. Docker Hub is `docker.io`.",
    ),
    Rule(
        "images-entry-unmatched",
        "error",
        "An `images:` entry matches no manifest",
        "kustomize matches `name` with the image's whole name, registry included, and says nothing when none has "
        "it. A tag that is bumped there changes nothing in the cluster.",
        "Write as `name` exactly what stands before the tag in the manifest's `image:`, or remove the entry.",
    ),
    # secrets
    Rule(
        "secret-plaintext",
        "error",
        "A Secret stands in plain text",
        "Everybody who can read the repository, or ever could, has the secret: git keeps it in its history. "
        "base64 hides nothing.",
        "Change the secret where it is used, since it is known now. Then seal it (`kubeseal`), encrypt the file "
        "with SOPS, or let Vault or the External Secrets Operator bring it into the cluster.",
    ),
    Rule(
        "secret-in-config",
        "error",
        "A variable or a ConfigMap holds what its name calls a secret",
        "A value in a manifest is in git for all to read, and shows in `kubectl describe`.",
        "Change the secret, keep it in a sealed or external Secret, and refer to it with `valueFrom.secretKeyRef`"
        " or let Vault's agent write it. A default that protects nothing can be allowed with that reason.",
    ),
    Rule(
        "token-like-string",
        "error",
        "A string looks like a key or a token",
        "Keys of clouds, registries, Vault and chat systems have forms that scanners of public repositories find "
        "within minutes.",
        "Revoke the token first, then remove it. An example that never was valid can be allowed with that reason.",
    ),
    Rule(
        "sealed-secret-scope",
        "error",
        "A sealed secret's name, namespace and scope cannot fit",
        "Sealing binds the ciphertext to namespace and name (`strict`), to the namespace, or to the cluster "
        "alone. Under any other name or namespace the controller cannot decrypt it: the Secret never appears, and"
        " pods wait for it.",
        "Seal the secret again for the name and namespace that it is applied with, after `namespace`, "
        "`namePrefix` and `nameSuffix` of the overlay. Keep the scope's annotation on the SealedSecret itself and"
        " on its template.",
    ),
    # vault
    Rule(
        "vault-secret-without-template",
        "warning",
        "A Vault secret has no template",
        "Without `agent-inject-template-NAME` the agent writes the secret as Go prints a map, which no shell can load.",
        "Add the template, for instance `{{ with secret \"openeg/data/flask\" }}export URI='{{ .Data.data.URI }}'{{"
        " end }}`, or choose `agent-inject-default-template: json` where the application reads JSON.",
    ),
    Rule(
        "vault-template-without-secret",
        "error",
        "A Vault template belongs to no secret",
        "The injector goes through the `agent-inject-secret-NAME` annotations and looks for the template of the "
        "same NAME. A template of another name is passed over without a word, and its file never appears.",
        "Add `agent-inject-secret-NAME` with the secret's path, or correct the NAME: both must be equal to the letter.",
    ),
    Rule(
        "vault-kv2-path",
        "error",
        "A path under a KV v2 mount lacks `data`",
        "The second version of the KV engine serves secrets below `MOUNT/data/`. `vault kv get` adds that by "
        "itself, the agent does not: it gets nothing, and `vault-agent-init` never ends.",
        "Write `MOUNT/data/PATH` in the annotation and in the template. `lint.kv2_mounts` in "
        "`.deploy/config.yaml` names the mounts; a template that reads `.Data.data` shows one too.",
    ),
    Rule(
        "vault-file-not-loaded",
        "error",
        "The start script does not load a file that Vault's agent writes",
        "The pod's command reads some files of `/vault/secrets` by name and leaves this one out, or loads it with "
        "`source` under `sh`: bash has `source`, Debian's `sh` does not. Its variables are missing at run time.",
        "Load it in the start script (`. /vault/secrets/NAME`, which every shell knows), or remove the annotation. "
        "Where the application reads the file by itself, allow it with that reason.",
    ),
    # workloads
    Rule(
        "probe-missing",
        "warning",
        "A container lacks a probe",
        "Without a readinessProbe a pod counts as ready at once: traffic reaches it before it can answer, and a "
        "broken version replaces a good one without being noticed. Without a livenessProbe one that hangs stays so "
        "until somebody restarts it.",
        "Add a readinessProbe to what serves a port. A livenessProbe restarts the container, so let it check the "
        "process alone and nothing that it depends on; where a process ends by itself when it can go no further, "
        "leave it out and allow that with the reason.",
    ),
    Rule(
        "resources-missing",
        "warning",
        "A container lacks requests or a memory limit",
        "The scheduler places pods by their requests; without a memory limit one leak takes the whole node with it.",
        "Set `requests.cpu`, `requests.memory` and `limits.memory`. A CPU limit is not asked for: it throttles "
        "where nobody is in need.",
    ),
    Rule(
        "security-context-missing",
        "warning",
        "A container's security context is not restricted",
        "What the Pod Security Standard `restricted` asks for takes the most used ways out of a container, and "
        "costs nothing where the application needs none of them. A root file system that cannot be written keeps an "
        "intruder from leaving programs there; the standard does not ask for it.",
        "Set `allowPrivilegeEscalation: false`, `readOnlyRootFilesystem: true`, `capabilities: {drop: [ALL]}` and, for "
        "the pod, `seccompProfile: {type: RuntimeDefault}`. What must be written goes to an `emptyDir` of its own.",
    ),
    Rule(
        "container-root",
        "error",
        "A container may run as root, and no reason is written",
        "Root in a container is root on the node for the kernel: one flaw in the runtime is enough.",
        "Set `runAsNonRoot: true` and, where the image names no user by number, `runAsUser` (OpenShift chooses one "
        "by itself). If it must be root, "
        "write why: `# lint: allow(container-root) REASON` at the container or at the pod's spec.",
    ),
    Rule(
        "container-privileged",
        "error",
        "A container is privileged, and no reason is written",
        "A privileged container sees the node's devices and can do whatever root on the node can.",
        "Add the one capability or device that is needed instead. Node agents that must be privileged say so: `# "
        "lint: allow(container-privileged) REASON`.",
    ),
    # kustomize
    Rule(
        "kustomize-deprecated-field",
        "warning",
        "A field of the kustomization has a modern form",
        "kustomize still reads the old fields and warns; a later version of its API will not.",
        "`kustomize edit fix` rewrites them; compare `kustomize build` before and after. `bases` → `resources`; "
        "`patchesStrategicMerge` and `patchesJson6902` → `patches`; `commonLabels` → `labels` with "
        "`includeSelectors: true`; `vars` → `replacements`.",
    ),
    Rule(
        "kustomize-build-failed",
        "error",
        "kustomize cannot build a kustomization",
        "Argo CD and Flux will fail in the same way, and the cluster keeps the former version.",
        "Run `kustomize build FOLDER` and mend what it says.",
    ),
    Rule(
        "kustomize-remote-unreachable",
        "warning",
        "A remote part of a kustomization cannot be fetched",
        "What cannot be fetched cannot be checked, and each render depends on another server being there.",
        "Check the address and the network; better, copy the manifests into the repository, at a known version.",
    ),
    # files
    Rule(
        "yaml-invalid",
        "error",
        "A file is not YAML",
        "No tool of the cluster can read it.",
        "Mend the named line. A template that another tool fills in first belongs to its own ending, such as `.tmpl`.",
    ),
    Rule(
        "yaml-duplicate-key",
        "error",
        "A key stands twice in one mapping",
        "One of the two values is lost without a word, which one depends on the tool; kustomize refuses some of them.",
        "Keep one of them.",
    ),
    Rule(
        "yaml-style",
        "warning",
        "yamllint does not like the style",
        "A uniform style keeps changes small and reviews short. The repository's own `.yamllint` is followed; "
        "without one only what is hardly a matter of taste is looked at.",
        "Change what the message says, or the rule in `.yamllint`. yamllint's own `# yamllint disable-line` works too.",
    ),
    # comments
    Rule(
        "allow-without-reason",
        "error",
        "A comment switches a rule off without a reason",
        "Nobody can judge later whether the exception still holds.",
        "Write the reason after the bracket: `# lint: allow(RULE-ID) because …`.",
    ),
    Rule(
        "allow-unknown-rule",
        "error",
        "A comment names a rule that does not exist",
        "It has no effect, although its author believed so.",
        "Correct the id; `docs/reference/lint/` lists them all.",
    ),
)
