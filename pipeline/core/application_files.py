"""What an application repository needs to be deployed: `deploy.yaml`, and a workflow that calls the pipeline."""

from collections.abc import Mapping, Sequence

from pipeline.core.answers import Service
from pipeline.core.yaml_scalar import write

DEPLOY = "deploy.yaml"
WORKFLOW = ".github/workflows/deploy.yml"


def deploy_yaml(registry: str, gitops_url: str, services: Sequence[Service], contexts: Mapping[str, str]) -> str:
    """`deploy.yaml`; `contexts` gives the folder of each service's Dockerfile."""
    lines = ["version: 1", f"registry: {write(registry)}", "gitops:", f"  url: {write(gitops_url)}", "  branch: main"]
    lines.append("services:")
    for service in services:
        lines += [f"  {write(service.name)}:", f"    image: {write(service.image)}"]
        lines.append(f"    context: {write(contexts[service.name])}")
    return "\n".join(lines) + "\n"


def workflow(version: str) -> str:
    """Every push to the main branch becomes a deployment to production; two of them never run at once."""
    return _WORKFLOW.replace("VERSION", version)


_WORKFLOW = """\
# Every push to the main branch is built, published and proved healthy. The secrets are this repository's:
# GITOPS_TOKEN writes the GitOps repository, ARGOCD_AUTH_TOKEN belongs to Argo CD's account `ci`.
name: deploy
on:
  push:
    branches: [main, master]
permissions: {}
# A newer push waits until the deployment before it is done; the pipeline never puts an older commit on top of it.
concurrency:
  group: deploy-${{ github.ref }}
  cancel-in-progress: false
jobs:
  deploy:
    runs-on: ubuntu-24.04
    timeout-minutes: 30
    permissions:
      contents: read
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2
        with:
          fetch-depth: 0 # the order of commits is judged by history
          persist-credentials: false
      - uses: openeg/deploy@vVERSION
        with:
          argocd-server: ${{ vars.ARGOCD_SERVER }}
          argocd-token: ${{ secrets.ARGOCD_AUTH_TOKEN }}
          gitops-token: ${{ secrets.GITOPS_TOKEN }}
          registry-username: ${{ secrets.REGISTRY_USERNAME }}
          registry-password: ${{ secrets.REGISTRY_PASSWORD }}
          slack-token: ${{ secrets.SLACK_BOT_TOKEN }}
"""
