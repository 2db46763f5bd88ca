"""The template's Vault, on the real server and agent: its configuration, its policy and role, what pods get of it.

Nothing stands in for Vault. The addresses and folders of the pod are replaced by ones of this machine, and the
commands are those that vault/README.md tells people.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context
from typing import Any

import pytest
from kubernetes import client, config
from ruamel.yaml import YAML

from lab.api import Api
from lab.build import PROGRAMS
from tests import needs

TEMPLATE = Path(__file__).resolve().parents[2] / "gitops-repo-template"
VAULT = TEMPLATE / "vault"
DEPLOYMENTS = {path.stem: path for path in (TEMPLATE / "base/deployments").glob("*.yaml")}
PREFIX = "vault.hashicorp.com/"
SECONDS = 30.0

# What would break a careless shell: quotes of both kinds, expansions, blanks, line ends, a backslash, no letters.
AWKWARD = "a'b\"c $HOME `id` $(id)\\n \\ 'x'' *;&|<>#!\n\tè "

pytestmark = pytest.mark.xdist_group("vault")


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in YAML(typ="safe").load_all(path.read_text()) if document]


def block(word: str) -> str:
    """The README's commands: its first block that begins with `word`."""
    found = re.search(rf"```sh\n({re.escape(word)}.*?)```", (VAULT / "README.md").read_text(), re.DOTALL)
    assert found, word
    return found[1]


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server of the template's configuration that runs."""

    folder: Path
    port: int
    environ: Mapping[str, str]
    process: subprocess.Popen[bytes]

    def run(self, command: str, token: str = "", given: str | None = None) -> subprocess.CompletedProcess[str]:
        """A shell's command, in the template's folder, with vault on the PATH."""
        return subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=VAULT,
            env={**self.environ, "VAULT_TOKEN": token},
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def must(self, command: str, token: str = "", given: str | None = None) -> str:
        done = self.run(command, token, given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self, path: str) -> int:
        """How the server answers a GET without a token; 0 when it does not."""
        return self.get(path)[0]

    def get(self, path: str) -> tuple[int, str]:
        trusted = create_default_context(cafile=str(self.folder / "tls/ca.crt"))
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{self.port}{path}", context=trusted, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        return self.status(probe("readinessProbe")) == 200

    def open(self) -> tuple[str, str]:
        """Initialise and unseal it with one key; the key and the root token."""
        made = json.loads(self.must("vault operator init -key-shares=1 -key-threshold=1 -format=json"))
        key = str(made["unseal_keys_b64"][0])
        self.must(f"vault operator unseal {key}")
        until(self.ready)
        return key, str(made["root_token"])


def until(done: Any) -> None:
    end = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def container() -> dict[str, Any]:
    (stateful_set,) = documents(VAULT / "server/stateful-set.yaml")
    (only,) = stateful_set["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def probe(name: str) -> str:
    path = container()[name]["httpGet"]["path"]
    assert isinstance(path, str)
    return path


def free_ports() -> dict[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return {"8200": one.getsockname()[1], "8201": two.getsockname()[1]}


def make_certificate(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["/bin/sh", "-ec", block("openssl")], cwd=folder, check=True, capture_output=True)


@contextlib.contextmanager
def serving(
    folder: Path, name: str = "vault-0", pods: Mapping[str, Mapping[str, int]] | None = None
) -> Iterator[Server]:
    """Start the container's command with the container's environment, in place of its addresses and folders ours.

    `pods` are the ports of all of them, where there are several.
    """
    if not (PROGRAMS / "vault").exists():
        needs.missing("vault is not built: `scripts/lab build vault`")
    for volume in ("data", "audit", "config", "tmp"):
        (folder / volume).mkdir(parents=True)
    if not (folder / "tls").exists():
        make_certificate(folder / "tls")
    ports = pods or {name: free_ports()}

    def here(text: str) -> str:
        text = text.replace("$(POD_NAME)", name)
        for pod, numbers in ports.items():
            for port, ours in numbers.items():
                text = text.replace(f"{pod}.vault-internal.vault-system.svc:{port}", f"127.0.0.1:{ours}")
        text = re.sub(r"(?:\[::\]|127\.0\.0\.1):(820\d)", lambda own: f"127.0.0.1:{ports[name][own[1]]}", text)
        return text.replace("/vault/", f"{folder}/")

    (folder / "config/vault.hcl").write_text(here((VAULT / "server/vault.hcl").read_text()))
    given = {entry["name"]: here(entry["value"]) for entry in container()["env"] if "value" in entry}
    environ = {**given, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": str(folder / "tmp")}
    command = [here(word) for word in container()["command"]]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, env=environ, stdout=log, stderr=log) as process:
        try:
            server = Server(folder=folder, port=ports[name]["8200"], environ=environ, process=process)
            until(lambda: server.status(probe("livenessProbe")) or process.poll() is not None)
            assert process.poll() is None, (folder / "log").read_text()
            yield server
        finally:
            process.terminate()


# the server


def unsealed(server: Server) -> set[str]:
    """The metric's values, as Prometheus reads them: without a token."""
    text = server.get("/v1/sys/metrics?format=prometheus")[1]
    return set(re.findall(r"^vault_core_unsealed(?:\{.*\})? (\d)$", text, re.MULTILINE))


def test_it_is_alive_before_it_is_unsealed_and_ready_after(tmp_path: Path) -> None:
    alive, ready = probe("livenessProbe"), probe("readinessProbe")
    with serving(tmp_path) as server:
        assert (server.status(alive), server.status(ready)) == (204, 501)  # fresh
        _, root = server.open()
        assert (server.status(alive), server.status(ready)) == (200, 200)
        assert unsealed(server) == {"1"}
        server.must("vault operator seal", root)
        until(lambda: server.status(ready) == 503)
        assert server.status(alive) == 204
        until(lambda: unsealed(server) == {"0"})  # what the alert VaultSealed sees


def test_a_hangup_lets_it_read_its_certificate_and_open_its_audit_log_anew(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        _, root = server.open()
        log = tmp_path / "audit/audit.log"
        server.must(f"vault audit enable file file_path={log}", root)
        log.rename(tmp_path / "audit/audit.1.log")
        make_certificate(tmp_path / "tls")
        assert not server.ready()  # it still shows the old one, which the new authority has not signed
        server.process.send_signal(signal.SIGHUP)
        until(server.ready)
        server.must("vault read sys/mounts", root)
        assert "sys/mounts" in log.read_text()


def test_three_join_by_themselves_and_outlive_the_loss_of_one(tmp_path: Path) -> None:
    pods = {f"vault-{number}": free_ports() for number in range(3)}
    with contextlib.ExitStack() as running:
        servers: list[Server] = []
        first = contextlib.ExitStack()
        make_certificate(tmp_path / "tls")
        for name in pods:
            (tmp_path / name).mkdir()
            (tmp_path / name / "tls").symlink_to(tmp_path / "tls")
            servers.append((running if servers else first).enter_context(serving(tmp_path / name, name, pods)))
        with first:
            key, root = servers[0].open()
            for server in servers[1:]:
                until(lambda server=server: server.run(f"vault operator unseal {key}").returncode == 0)
                until(server.ready)

            def voters() -> set[str]:
                listed = json.loads(servers[1].must("vault operator raft list-peers -format=json", root))
                return {peer["node_id"] for peer in listed["data"]["config"]["servers"] if peer["voter"]}

            until(lambda: voters() == set(pods))
            servers[2].must("vault secrets enable -path=openeg -version=2 kv", root)
            servers[1].must("vault kv put openeg/kept value=yes", root)
        until(lambda: servers[1].run("vault kv get openeg/kept", root).returncode == 0)
        assert servers[2].run("vault kv get openeg/kept", root).returncode == 0


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A server with all that the README's commands put into it."""

    server: Server
    root: str
    api: client.CoreV1Api
    kubernetes: str

    def token(self, account: str, namespace: str, audience: str = "vault") -> str:
        """A token of a ServiceAccount, as the kubelet would put it into a pod; without audience for the API server."""
        spec = client.V1TokenRequestSpec(audiences=[audience] if audience else [], expiration_seconds=600)
        request = client.AuthenticationV1TokenRequest(spec=spec)
        answer = self.api.create_namespaced_service_account_token(account, namespace, request)
        assert answer.status
        return str(answer.status.token)

    def login(self, jwt: str) -> subprocess.CompletedProcess[str]:
        command = "vault write -field=token auth/kubernetes/login role=openeg-role jwt=-"
        return self.server.run(command, given=jwt)

    def logged_in(self) -> str:
        """A token of Vault's, as the Flask server's pod gets it."""
        done = self.login(self.token("flask-app", "openeg-system"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def put(self, name: str, **values: Any) -> None:
        """Write a secret through standard input: a command line would show it."""
        self.server.must(f"vault kv put -mount=openeg data/databases/{name} -", self.root, json.dumps(values))


ACCOUNTS = [("flask-app", "openeg-system"), ("default", "openeg-system"), ("flask-app", "vault-test-elsewhere")]


@pytest.fixture(scope="module")
def filled(cluster_variables: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    if "KUBECONFIG" not in cluster_variables:
        needs.missing('no cluster is named: KUBECONFIG; `eval "$(scripts/lab env)"` names the lab')
    kubeconfig = cluster_variables["KUBECONFIG"]
    folder = tmp_path_factory.mktemp("vault")
    with serving(folder / "pod") as server, cluster_objects(Path(kubeconfig)):
        core = client.CoreV1Api(config.new_client_from_config(kubeconfig))  # type: ignore[no-untyped-call]
        settings = core.api_client.configuration
        _, root = server.open()
        filled = Filled(server=server, root=root, api=core, kubernetes=settings.host)
        # In its pod Vault finds these two where the kubelet puts them.
        reviewer = filled.token("vault", "vault-system", audience="")
        (folder / "reviewer").write_text(reviewer)
        outside = f"kubernetes_host={settings.host} kubernetes_ca_cert=@{settings.ssl_ca_cert}"
        commands = block("vault audit").replace("/vault/audit", f"{server.folder}/audit")
        commands = commands.replace(
            "kubernetes_host=https://kubernetes.default.svc", f"{outside} token_reviewer_jwt=@{folder}/reviewer"
        )
        server.must(commands, root)
        filled.put("mongodb", uri=AWKWARD, user="the user of mongodb")
        filled.put("redis", url="redis://redis.example:6379", password=AWKWARD)
        yield filled


@contextlib.contextmanager
def cluster_objects(kubeconfig: Path) -> Iterator[None]:
    """What the template's server needs of the cluster, and some ServiceAccounts to log in with."""
    api = Api(kubeconfig)
    accounts = documents(VAULT / "server/service-account.yaml")
    for item in accounts:
        if item["kind"] == "ServiceAccount":
            item["metadata"]["namespace"] = "vault-system"
    accounts += [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        for name, namespace in ACCOUNTS
    ]
    spaces = {item["metadata"].get("namespace") for item in accounts} - {None}
    ours = [space for space in spaces if api.get("v1", "Namespace", space) is None]
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}} for space in ours)
    api.apply(accounts)
    try:
        yield
    finally:
        for space in ours:
            api.delete("v1", "Namespace", space)


def test_metrics_need_no_token_and_name_no_secret(filled: Filled) -> None:
    code, text = filled.server.get("/v1/sys/metrics?format=prometheus")
    assert (code, "vault_core_unsealed" in text, "mongodb" in text) == (200, True, False)


def test_each_access_is_logged_twice_and_without_the_secret(filled: Filled) -> None:
    token = filled.logged_in()
    filled.server.must("vault kv get openeg/data/databases/redis", token)
    for file in ("audit/audit.log", "log"):
        text = (filled.server.folder / file).read_text()
        lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"')]
        reads = [line for line in lines if line["request"].get("path") == "openeg/data/data/databases/redis"]
        who = {line["auth"].get("metadata", {}).get("service_account_name") for line in reads}
        assert "flask-app" in who
        assert all(secret not in text for secret in ("the user of mongodb", "redis.example", token, filled.root))
        assert json.dumps(AWKWARD)[1:-1] not in text


# the policy and the role


def test_an_account_that_is_bound_reads_what_the_policy_names_and_no_more(filled: Filled) -> None:
    token = filled.logged_in()
    got = json.loads(filled.server.must("vault kv get -format=json openeg/data/databases/mongodb", token))
    assert got["data"]["data"] == {"uri": AWKWARD, "user": "the user of mongodb"}
    for command in (
        "vault kv put openeg/data/databases/mongodb uri=x",
        "vault kv delete openeg/data/databases/mongodb",
        "vault kv list openeg/data/databases",
        "vault kv get openeg/other",
        "vault read sys/mounts",
        "vault token create",
    ):
        done = filled.server.run(command, token)
        assert (done.returncode, "permission denied" in done.stderr) == (2, True), command


def test_the_login_is_short(filled: Filled) -> None:
    found = json.loads(filled.server.must('vault token lookup -format=json "$(cat)"', filled.root, filled.logged_in()))
    assert (found["data"]["creation_ttl"], found["data"]["policies"]) == (600, ["openeg"])


@pytest.mark.parametrize(
    ("account", "namespace", "audience", "why"),
    [
        ("default", "openeg-system", "vault", "service account name not authorized"),
        ("flask-app", "vault-test-elsewhere", "vault", "namespace not authorized"),
        ("flask-app", "openeg-system", "", "invalid audience"),
    ],
)
def test_others_are_refused(filled: Filled, account: str, namespace: str, audience: str, why: str) -> None:
    done = filled.login(filled.token(account, namespace, audience))
    assert (done.returncode, why in done.stderr) == (2, True), done.stderr


def test_a_token_that_was_tampered_with_is_refused(filled: Filled) -> None:
    head, body, signature = filled.token("flask-app", "openeg-system").split(".")
    done = filled.login(f"{head}.{body}.{signature[::-1]}")
    assert (done.returncode, "permission denied" in done.stderr) == (2, True), done.stderr


def test_the_role_names_the_accounts_of_the_deployments_and_the_policy_that_is_there() -> None:
    role = json.loads((VAULT / "roles/openeg-role.json").read_text())
    assert set(role["bound_service_account_names"]) == set(DEPLOYMENTS)
    assert all((VAULT / f"policies/{name}.hcl").exists() for name in role["token_policies"])


def test_a_misspelt_policy_is_refused(filled: Filled) -> None:
    for file in (VAULT / "policies").glob("*.hcl"):
        wrong = file.read_text().replace('"read"', '"raed"')
        assert wrong != file.read_text()
        done = filled.server.run("vault policy write misspelt -", filled.root, wrong)
        assert (done.returncode, "raed" in done.stderr) == (2, True), done.stderr


# what pods get


def pod_template(name: str) -> dict[str, Any]:
    (deployment,) = [item for item in documents(DEPLOYMENTS[name]) if item["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    assert isinstance(template, dict)
    return template


def render(filled: Filled, template: Mapping[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the agent with the configuration that the injector makes of a pod's annotations."""
    notes = {
        key.removeprefix(PREFIX): value
        for key, value in template["metadata"]["annotations"].items()
        if key.startswith(PREFIX)
    }
    volume = notes["agent-service-account-token-volume-name"]
    (projected,) = [item["projected"] for item in template["spec"]["volumes"] if item["name"] == volume]
    (source,) = [item["serviceAccountToken"] for item in projected["sources"]]
    folder.mkdir(exist_ok=True)
    jwt = folder / source["path"]
    jwt.write_text(filled.token("flask-app", "openeg-system", source["audience"]))
    names = [key.removeprefix("agent-inject-secret-") for key in notes if key.startswith("agent-inject-secret-")]
    whole = {
        "vault": {"address": f"https://127.0.0.1:{filled.server.port}"},
        "exit_after_auth": True,
        "auto_auth": {
            "method": {
                "type": "kubernetes",
                "mount_path": "auth/kubernetes",
                "config": {"role": notes["role"], "token_path": str(jwt)},
            },
            "sink": [{"type": "file", "config": {"path": str(folder / ".token")}}],
        },
        "template_config": {"exit_on_retry_failure": True},
        "template": [
            {
                "destination": str(folder / name),
                "contents": notes[f"agent-inject-template-{name}"],
                "perms": notes[f"agent-inject-perms-{name}"],
                "error_on_missing_key": notes[f"error-on-missing-key-{name}"] == "true",
            }
            for name in names
        ],
    }
    (folder / "agent.json").write_text(json.dumps(whole))
    authority = (filled.server.folder / "tls/ca.crt").read_text()
    environ = {"PATH": filled.server.environ["PATH"], "HOME": str(folder), "VAULT_CACERT_BYTES": authority}
    command = ["vault", "agent", f"-config={folder}/agent.json"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


def loaded(folder: Path, *names: str) -> dict[str, str]:
    """What a program finds in its environment, once `sh` has loaded the files."""
    script = "".join(f". {shlex.quote(str(folder / name))}\n" for name in names) + "exec env -0"
    done = subprocess.run(["/bin/sh", "-ec", script], env={"PATH": "/usr/bin:/bin"}, check=True, capture_output=True)
    pairs = (entry.partition("=") for entry in done.stdout.decode().split("\0") if entry)
    return {key: value for key, _, value in pairs if key not in {"PATH", "PWD", "SHLVL", "_"}}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_files_load_in_sh_whatever_the_values_are(filled: Filled, name: str, tmp_path: Path) -> None:
    done = render(filled, pod_template(name), tmp_path / "secrets")
    assert done.returncode == 0, done.stderr
    assert loaded(tmp_path / "secrets", "mongodb", "redis") == {
        "MONGODB_URI": AWKWARD,
        "MONGODB_USER": "the user of mongodb",
        "REDIS_URL": "redis://redis.example:6379",
        "REDIS_PASSWORD": AWKWARD,
    }
    assert {(tmp_path / "secrets" / file).stat().st_mode & 0o777 for file in ("mongodb", "redis")} == {0o400}
    assert AWKWARD not in done.stdout + done.stderr


def test_a_number_is_a_value_too(filled: Filled, tmp_path: Path) -> None:
    filled.put("redis", url="redis://redis.example:6379", password=123456789012)
    try:
        assert render(filled, pod_template("flask-app"), tmp_path / "secrets").returncode == 0
        assert loaded(tmp_path / "secrets", "redis")["REDIS_PASSWORD"] == "123456789012"
    finally:
        filled.put("redis", url="redis://redis.example:6379", password=AWKWARD)


def test_a_key_that_is_missing_stops_the_pod(filled: Filled, tmp_path: Path) -> None:
    filled.put("redis", url="redis://redis.example:6379")
    try:
        done = render(filled, pod_template("flask-app"), tmp_path / "secrets")
        assert (done.returncode, "map has no entry for key" in done.stderr) == (1, True), done.stderr
        assert not (tmp_path / "secrets/redis").exists()
    finally:
        filled.put("redis", url="redis://redis.example:6379", password=AWKWARD)
