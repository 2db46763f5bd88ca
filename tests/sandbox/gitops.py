"""A small GitOps repository for the sandbox's tests: a bare one, and a work tree that pushes to it by path."""

import os
import subprocess
from pathlib import Path

MANIFESTS = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: web}
"""
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


class Gitops:
    """`root/deploy.git`, with a base and the overlay `prod` that gives `web` the image `example/web`."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "git"
        self.bare = self.root / "deploy.git"
        self.work = folder / "work"
        self.root.mkdir()
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.bare], env=ENVIRONMENT, check=True)
        subprocess.run(["git", "init", "-q", "-b", "main", self.work], env=ENVIRONMENT, check=True)
        self.write("base/kustomization.yaml", "resources: [web.yaml]\n")
        self.write("base/web.yaml", MANIFESTS)
        self.deploy("v1")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", self.work, *arguments], env=ENVIRONMENT, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        file = self.work / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def push(self, message: str = "change") -> str:
        """Commit everything and push it; returns the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.git("push", "-q", "--force", str(self.bare), "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def deploy(self, tag: str, *, repository: str = "example/web", extra: str = "") -> str:
        """Commit and push another tag."""
        self.write(
            "prod/kustomization.yaml",
            f"namespace: demo\nresources: [../base]\nimages:\n- name: web\n  newName: {repository}\n"
            f'  newTag: "{tag}"\n{extra}',
        )
        return self.push(tag)
