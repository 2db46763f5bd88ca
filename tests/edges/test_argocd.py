"""Argo CD's client against a real HTTP server: answers, refusals, and what stands before the server."""

import contextlib
import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.argocd import Pod, Tree
from pipeline.core.secret import Secret
from pipeline.edges.argocd import ArgoCD, connect
from pipeline.edges.http import USER_AGENT, Front
from pipeline.errors import ApplicationNotFound, ArgoCDDenied, NotArgoCD, PipelineError, Unreachable, UsageError
from tests.argocd_shapes import OURS, application, pod, tree
from tests.edges.scripted_server import Exchange, Scripted, scripted

TOKEN = Secret("marked-token")
DEMO = "/api/v1/applications/demo"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


def client(server: Scripted, **options: Any) -> ArgoCD:
    return connect(server.url, TOKEN, **options)


def answering(status: int, body: object, **headers: str) -> Any:
    return lambda exchange: exchange.answer(status, body, **headers)


# answers


def test_an_application_and_its_tree_are_read(server: Scripted) -> None:
    server.routes[DEMO] = answering(200, application())
    server.routes[f"{DEMO}/resource-tree"] = answering(200, tree(pod()))
    argocd = client(server)
    assert argocd.get("demo").revisions == (OURS,)
    assert [str(each) for each in argocd.tree("demo").pods] == ["Pod/web-new"]
    assert server.requests[0].headers["Authorization"] == "Bearer marked-token"


def test_an_application_without_resources_has_an_empty_tree(server: Scripted) -> None:
    server.routes[f"{DEMO}/resource-tree"] = answering(200, {})
    assert client(server).tree("demo") == Tree()


def test_a_refresh_and_the_project_travel_in_the_query(server: Scripted) -> None:
    server.routes[DEMO] = answering(200, application())
    client(server, project="default").get("demo", refresh=True)
    assert server.requests[0].query == {"refresh": "normal", "project": "default"}


def test_a_name_cannot_lead_elsewhere(server: Scripted) -> None:
    with pytest.raises(PipelineError):
        client(server).get("../session?x")
    assert server.requests[0].path == "/api/v1/applications/..%2Fsession%3Fx"


DENIED = {"error": "permission denied", "code": 7, "message": "permission denied"}
RBAC = {"error": "x", "code": 7, "message": "permission denied: applications, get, default/demo, sub: ci"}
UNKNOWN = {"error": "x", "code": 5, "message": 'applications.argoproj.io "demo" not found'}


@pytest.mark.parametrize(
    ("answer", "project", "error", "words"),
    [
        (
            (401, {"code": 16, "message": "invalid session"}),
            None,
            ArgoCDDenied,
            "does not accept the token: invalid session",
        ),
        ((401, {"error": {"grpc_code": 16, "message": "no session"}}), None, ArgoCDDenied, "the token: no session"),
        ((403, DENIED), None, ArgoCDDenied, "it does not exist, or this account may not see it"),
        ((403, DENIED), "default", ArgoCDDenied, "it is not in the project 'default', or this account"),
        ((403, RBAC), None, ArgoCDDenied, "applications, get, default/demo, sub: ci"),
        ((404, UNKNOWN), "default", ApplicationNotFound, "has no such application in the project 'default'"),
        ((404, "<h1>nginx</h1>"), None, NotArgoCD, "answers 404 with text/html: this is not Argo CD's API"),
        ((200, "<h1>Log in</h1>"), None, NotArgoCD, "answers 200 with text/html: this is not Argo CD's API"),
        ((403, "<h1>Forbidden</h1>"), None, NotArgoCD, "answers 403 with text/html: this is not"),
        ((302, "", "https://sso.example/"), None, NotArgoCD, "redirects to https://sso.example/"),
        ((503, "upstream"), None, Unreachable, "answers 503: upstream"),
        ((415, "Invalid content type"), None, Unreachable, "answers 415: Invalid content type"),
    ],
)
def test_each_refusal_is_told_for_what_it_is(
    server: Scripted, answer: Any, project: str | None, error: type[PipelineError], words: str
) -> None:
    status, body, *location = answer
    server.routes[DEMO] = answering(status, body, **({"Location": location[0]} if location else {}))
    with pytest.raises(error) as raised:
        client(server, project=project).get("demo")
    assert words in str(raised.value)
    assert server.url in str(raised.value)
    assert "marked-token" not in f"{raised.value} {raised.value.remedy}"


@pytest.mark.parametrize(
    "ask",
    [
        lambda argocd: argocd.get("demo"),
        lambda argocd: argocd.tree("demo"),
        lambda argocd: argocd.sync_window("demo"),
        lambda argocd: argocd.explain("demo", Pod(name="web-1")),
    ],
    ids=["get", "tree", "sync_window", "explain"],
)
@pytest.mark.parametrize("nonsense", [1, [1], "x", {"name": 1}])
def test_json_of_another_shape_is_no_error_but_the_one_that_says_so(
    server: Scripted, ask: Any, nonsense: object
) -> None:
    keys = ("metadata", "nodes", "activeWindows", "items", "manifest", "result")
    server.otherwise = answering(200, dict.fromkeys(keys, nonsense))
    with contextlib.suppress(NotArgoCD):  # some nonsense is no more than an empty answer
        ask(client(server))
    assert server.requests


def test_a_server_that_does_not_listen_is_unreachable() -> None:
    with scripted() as gone:
        argocd = client(gone)
    with pytest.raises(Unreachable, match="Connection refused"):
        argocd.get("demo")


# what stands before the server


def test_extra_headers_and_a_root_path_reach_the_front(server: Scripted) -> None:
    server.routes[f"/tools/argo{DEMO}"] = answering(200, application())
    front = Front(headers={"CF-Access-Client-Id": "abc"})
    argocd = connect(f"{server.url}/tools/", TOKEN, front, root_path="/argo")
    assert argocd.get("demo").name == "demo"
    headers = server.requests[0].headers
    assert (headers["CF-Access-Client-Id"], headers["User-Agent"]) == ("abc", USER_AGENT)


@pytest.mark.parametrize(
    ("own", "cookie"),
    [({}, "argocd.token=marked-token"), ({"cookie": "CF_Session=x"}, "CF_Session=x; argocd.token=marked-token")],
)
def test_where_the_front_takes_the_authorization_header_the_token_is_a_cookie(
    server: Scripted, own: dict[str, str], cookie: str
) -> None:
    server.routes[DEMO] = answering(200, application())
    client(server, front=Front(headers={"authorization": "Basic abc", **own})).get("demo")
    headers = server.requests[0].headers
    assert (headers["Authorization"], headers.get_all("Cookie")) == ("Basic abc", [cookie])


def test_an_http_proxy_is_gone_through(server: Scripted) -> None:
    with scripted() as proxy:
        proxy.otherwise = answering(200, application())
        client(server, front=Front(proxy=proxy.url)).get("demo")
        assert proxy.requests[0].path == server.url + DEMO
    assert not server.requests


def test_the_environment_s_proxy_is_not_asked_for_this_machine(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"http_proxy": "http://127.0.0.1:1", "NO_PROXY": "", "no_proxy": ""}.items():
        monkeypatch.setenv(name, value)
    server.routes[DEMO] = answering(200, application())
    assert client(server).get("demo").name == "demo"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a server's and a client's certificate."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    extensions = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", *extensions)
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    for name in ("server", "client"):
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "san")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
    return folder


def test_a_private_ca_and_a_client_certificate_are_used(pki: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "ca.pem"))
    context.load_cert_chain(pki / "server.pem", pki / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    with scripted(context) as server:
        server.routes[DEMO] = answering(200, application())
        ca, certificate, key = pki / "ca.pem", pki / "client.pem", pki / "client.key"
        trusted = Front(ca_bundle=ca, client_certificate=certificate, client_key=key)
        address = f"127.0.0.1:{server.port}"
        assert connect(address, TOKEN, trusted).get("demo").name == "demo"
        for front in (Front(ca_bundle=ca), Front(client_certificate=certificate, client_key=key)):
            with pytest.raises(Unreachable):
                connect(address, TOKEN, front).get("demo")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"ca_bundle": "san"}, "san: not a CA bundle: "),
        ({"ca_bundle": "."}, "not a CA bundle: Is a directory"),
        ({"client_certificate": "none.pem"}, "none.pem: not a client certificate with its key: No such file"),
        ({"client_certificate": "client.pem"}, "client.pem: not a client certificate with its key: "),
        ({"client_certificate": "client.pem", "client_key": "server.key"}, "server.key: not a client certificate"),
        ({"client_certificate": "client.pem", "client_key": "locked.key"}, "locked.key: not a client certificate"),
        ({"client_key": "client.key"}, "client.key: a key without its certificate"),
    ],
)
def test_certificates_that_cannot_be_used_are_named_before_anything_is_asked(
    pki: Path, files: dict[str, str], words: str
) -> None:
    lock = ("openssl", "pkcs8", "-topk8", "-in", "client.key", "-passout", "pass:x", "-out", "locked.key")
    subprocess.run(lock, cwd=pki, check=True, capture_output=True)
    paths: Any = {name: pki / file for name, file in files.items()}
    with pytest.raises(UsageError) as raised:
        connect("argocd.invalid", TOKEN, Front(**paths))
    assert words in str(raised.value)
    assert "_ssl" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "token"),
    [("ftp://argocd", "x"), ("https://", "x"), ("https://me:pw@argocd", "x"), ("argocd", " "), ("argocd", "a\nb")],
)
def test_an_address_or_token_that_cannot_be_one_is_refused(address: str, token: str) -> None:
    with pytest.raises(UsageError) as raised:
        connect(address, Secret(token))
    assert "pw" not in str(raised.value)


def test_a_token_may_end_in_a_newline_as_files_do(server: Scripted) -> None:
    server.routes[DEMO] = answering(200, application())
    connect(server.url, Secret("marked-token\n")).get("demo")
    assert server.requests[0].headers["Authorization"] == "Bearer marked-token"


# sync


@pytest.mark.parametrize(
    ("status", "message", "result"),
    [
        (200, "", None),
        (400, "Cannot sync to abc: auto-sync currently set to main", None),
        (400, "another operation is already in progress", None),
        (403, "cannot sync: blocked by sync window", "cannot sync: blocked by sync window"),
    ],
)
def test_a_sync_has_begun_or_is_forbidden_by_a_window(
    server: Scripted, status: int, message: str, result: str | None
) -> None:
    body = application() if status == 200 else {"error": message, "code": 9, "message": message}
    server.routes[f"{DEMO}/sync"] = answering(status, body)
    assert client(server, project="default").sync("demo") == result
    request = server.requests[0]
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.body) == {"name": "demo", "project": "default"}


def test_a_sync_without_the_right_is_denied(server: Scripted) -> None:
    message = "permission denied: applications, sync, default/demo, sub: ci"
    server.routes[f"{DEMO}/sync"] = answering(403, {"code": 7, "message": message})
    with pytest.raises(ArgoCDDenied, match="applications, sync"):
        client(server).sync("demo")


DENY = {"kind": "deny", "schedule": "* * * * *", "duration": "1h"}
ALLOW = {"kind": "allow", "schedule": "0 3 * * *", "duration": "2h", "manualSync": True}


@pytest.mark.parametrize(
    ("windows", "result"),
    [
        ({"canSync": True}, None),
        ({"activeWindows": [DENY], "assignedWindows": [DENY]}, "blocked by sync window (deny * * * * * for 1h)"),
        ({"assignedWindows": [DENY]}, None),
        ({"assignedWindows": [ALLOW], "canSync": True}, "blocked by sync window (allow 0 3 * * * for 2h)"),
        ({"activeWindows": [ALLOW], "assignedWindows": [ALLOW]}, None),
        ({"activeWindows": [ALLOW, DENY], "assignedWindows": [ALLOW, DENY]}, "blocked by sync window (deny"),
    ],
)
def test_the_window_that_keeps_automated_sync_from_beginning(
    server: Scripted, windows: Any, result: str | None
) -> None:
    server.routes[f"{DEMO}/syncwindows"] = answering(200, windows)
    found = client(server).sync_window("demo")
    assert (found is None) == (result is None)
    assert (result or "") in (found or "")


# explaining a pod

WEB = Pod(name="web-1", namespace="demo", uid="u1", reason="CrashLoopBackOff")


def status(name: str, state: str, *, restarts: int = 0, last: bool = False, ready: bool = False, **detail: Any) -> Any:
    """A container's status; `started` as a kubelet sets it, which is true of an init container that runs."""
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}} if last else {}
    state_of = {"name": name, "state": {state: detail}, "lastState": ended, "restartCount": restarts}
    return state_of | {"ready": ready, "started": state == "running"}


def explained(server: Scripted, pod_status: Any, *lines: str, pod: Pod = WEB, told_by: str = "web-1") -> Any:
    """The evidence, and the query of each question about logs."""
    sidecar = {"name": "log-shipper", "restartPolicy": "Always"}
    manifest = json.dumps({"spec": {"initContainers": [{"name": "first"}, sidecar]}, "status": pod_status})
    server.routes[f"{DEMO}/resource"] = answering(200, {"manifest": manifest})

    def logs(exchange: Exchange) -> None:
        entries = [{"result": {"content": line, "podName": told_by}} for line in lines]
        text = "\n".join(
            json.dumps(entry) for entry in [*entries, {"result": {"content": "", "last": True, "podName": ""}}]
        )
        exchange.answer(200, text)

    server.routes[f"{DEMO}/logs"] = logs
    evidence = client(server).explain("demo", pod)
    return evidence, [request.query for request in server.requests if "/logs" in request.path]


@pytest.mark.parametrize(
    ("pod_status", "container", "message", "previous"),
    [
        (
            {"containerStatuses": [status("web", "waiting", restarts=3, last=True, reason="CrashLoopBackOff")]},
            "web",
            "exit code 1 (Error)",
            None,
        ),
        (
            {"containerStatuses": [status("web", "running", restarts=3, last=True)]},
            "web",
            "exit code 1 (Error)",
            "true",
        ),
        (
            {"containerStatuses": [status("proxy", "running", ready=True), status("web", "running")]},
            "web",
            "",
            None,
        ),
        (
            {
                "containerStatuses": [
                    status("web", "running"),
                    status("worker", "terminated", exitCode=2, message="no db"),
                ]
            },
            "worker",
            "no db",
            None,
        ),
        (
            {
                "initContainerStatuses": [
                    status("first", "terminated", exitCode=0),
                    status("log-shipper", "running"),
                    status("vault-agent-init", "running"),
                ],
                "containerStatuses": [status("web", "waiting", reason="PodInitializing")],
            },
            "vault-agent-init",
            "",
            None,
        ),
    ],
    ids=["waits to be restarted", "runs again", "is not ready", "has ended", "is initialised"],
)
def test_the_container_in_trouble_is_found_and_its_log_read(
    server: Scripted, pod_status: Any, container: str, message: str, previous: str | None
) -> None:
    evidence, queries = explained(server, pod_status, "boot", "KeyError")
    assert (evidence.container, evidence.message, evidence.logs) == (container, message, ("boot", "KeyError"))
    assert queries[0].get("previous") == previous
    assert queries[0]["container"] == container
    assert queries[0]["tailLines"] == "20"


def test_a_container_that_never_ran_has_no_log(server: Scripted) -> None:
    waiting = {"containerStatuses": [status("web", "waiting", reason="ImagePullBackOff", message="Back-off pulling")]}
    evidence, queries = explained(server, waiting, "x", pod=Pod(name="web-1", reason="ImagePullBackOff"))
    assert (evidence.container, evidence.message, evidence.logs, queries) == ("web", "Back-off pulling", (), [])


def test_what_the_kubelet_complains_of_is_no_log_line(server: Scripted) -> None:
    crashed = {"containerStatuses": [status("web", "waiting", restarts=1)]}
    complaint = 'failed to read log file ".": read .: is a directory'
    evidence, queries = explained(server, crashed, complaint, told_by="")
    assert evidence.logs == ()
    assert [query.get("previous") for query in queries] == [None, "true"]


def test_a_missing_right_to_logs_does_not_hide_the_rest(server: Scripted) -> None:
    crashed = {"status": {"containerStatuses": [status("web", "waiting", restarts=1, last=True)]}}
    server.routes[f"{DEMO}/resource"] = answering(200, {"manifest": json.dumps(crashed)})
    server.routes[f"{DEMO}/logs"] = answering(403, {"error": {"message": "permission denied: logs, get, default/demo"}})
    server.routes[f"{DEMO}/events"] = answering(
        200, {"items": [{"type": "Warning", "reason": "BackOff", "message": "m"}]}
    )
    evidence = client(server).explain("demo", WEB)
    assert evidence.logs == ("(log lines need the right `logs, get` in Argo CD)",)
    assert (evidence.message, evidence.events) == ("exit code 1 (Error)", ("BackOff: m",))


def test_without_the_manifest_the_log_is_still_read(server: Scripted) -> None:
    line = json.dumps({"result": {"content": "boot", "podName": "web-1"}})
    server.routes[f"{DEMO}/logs"] = answering(200, line)
    evidence = client(server).explain("demo", WEB)
    assert (evidence.container, evidence.logs) == (None, ("boot",))


def test_events_are_the_last_warnings_oldest_first(server: Scripted) -> None:
    def event(second: int, kind: str, message: str, count: int = 1) -> dict[str, object]:
        at = f"2026-11-23T16:00:{second:02}Z"
        return {"type": kind, "reason": "R", "message": message, "count": count, "lastTimestamp": at}

    items = [event(9, "Warning", "late", 4), event(1, "Warning", "early"), event(5, "Normal", "Pulled")]
    server.routes[f"{DEMO}/events"] = answering(200, {"items": items})
    assert client(server).explain("demo", WEB).events == ("R: early", "R: late (x4)")
    query = next(request.query for request in server.requests if "/events" in request.path)
    assert query == {"resourceNamespace": "demo", "resourceName": "web-1", "resourceUID": "u1"}
