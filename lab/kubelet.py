"""The logs of fake pods: what the API server asks a kubelet for. `python -m lab.kubelet LAB` is the process.

A container whose image is broken has written what its stage says, any other one a line that it listens. As from a real
kubelet, a container that never ran has no logs, and one that never restarted no previous ones.
"""

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from lab.api import Api, Object
from lab.faults import LOG, VERSION, stage_name
from lab.state import LOOPBACK, Lab, find

_MOMENT = "2026-01-01T00:00:00.000000000Z"


def serve(lab: Lab) -> None:
    """Answer `/containerLogs/NAMESPACE/POD/CONTAINER` until ended."""
    api = Api(lab.kubeconfig)

    class Kubelet(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            asked = {key: values[-1] for key, values in parse_qs(url.query).items()}
            match [unquote(part) for part in url.path.split("/")]:
                case ["", "containerLogs", namespace, pod, container]:
                    status, lines = _logs(api, namespace, pod, container, previous=asked.get("previous") == "true")
                case _:
                    status, lines = 404, ["no such page"]
            if status == 200 and asked.get("tailLines"):
                lines = lines[-int(asked["tailLines"]) :] if asked["tailLines"] != "0" else []
            stamp = f"{_MOMENT} " if asked.get("timestamps") == "true" else ""
            body = "".join(f"{stamp}{line}\n" for line in lines).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None: ...

    server = ThreadingHTTPServer((LOOPBACK, lab.ports["kubelet"]), Kubelet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(lab.folder / "server.crt", lab.folder / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


def _logs(api: Api, namespace: str, name: str, container: str, *, previous: bool) -> tuple[int, list[str]]:
    pod = api.get("v1", "Pod", name, namespace)
    if pod is None:
        return 404, [f'pods "{name}" not found']
    init, main = (pod["status"].get(kind) or [] for kind in ("initContainerStatuses", "containerStatuses"))
    status: Object = next((item for item in (*init, *main) if item["name"] == container), {})
    state, past = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
    if not (past if previous else past or {"running", "terminated"} & state.keys()):
        return 400, [f'container "{container}" in pod "{name}" is waiting to start, or never ended']
    images = [item["image"] for item in pod["spec"]["containers"]]
    broken = next((stage for image in images if (stage := api.get(VERSION, "Stage", stage_name(image)))), None)
    if broken and (past or "terminated" in state or status in init):
        return 200, json.loads(broken["metadata"]["annotations"][LOG])
    return 200, [f"{container} listens"]


if __name__ == "__main__":
    found = find(sys.argv[1])
    serve(found) if found else sys.exit(f"there is no lab {sys.argv[1]!r}")
