"""OpenEG's web server, in small: an answer, its health and its metrics."""

import os
import sys
import time

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest

# From the files that the Vault agent writes; the start script loads them.
SETTINGS = ("MONGODB_URI", "MONGODB_USER", "REDIS_URL", "REDIS_PASSWORD")

REQUESTS = Counter("http_requests", "Requests answered.", ("service", "method", "path", "status"))
SECONDS = Histogram("http_request_duration_seconds", "Time to answer.", ("service", "method", "path"))

app = Flask(__name__)


@app.get("/")
def index():
    return {"service": "flask-app"}


@app.get("/health")
def health():
    """Alive, and which settings there are: never what they say."""
    return {"status": "ok", "configured": {name: bool(os.environ.get(name)) for name in SETTINGS}}


@app.get("/metrics")
def metrics():
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)


@app.before_request
def begin():
    g.began = time.perf_counter()


@app.after_request
def count(response):
    # The route, not the URL, and only methods that a route has: strangers must not make up series.
    path, method = (request.url_rule.rule, request.method) if request.url_rule else ("other", "other")
    REQUESTS.labels("flask-app", method, path, response.status_code).inc()
    SECONDS.labels("flask-app", method, path).observe(time.perf_counter() - g.began)
    return response


if __name__ == "__main__":
    # One process, since metrics live in it; Kubernetes makes more of them. Heartbeats go to memory: no file is written.
    options = ["--workers=1", "--threads=8", "--worker-tmp-dir=/dev/shm", "--graceful-timeout=20"]
    port = os.environ.get("PORT", "5000")
    os.execv(sys.executable, (sys.executable, "-m", "gunicorn", *options, f"--bind=0.0.0.0:{port}", "app:app"))
