"""Which engine builds here: Docker's buildx plugin where there is one, else the engine's own builder."""

from pipeline.edges.buildx import Buildx, find_plugin
from pipeline.edges.registry_login import Logins
from pipeline.errors import ExtraMissing
from pipeline.steps.build_image import Engine


def connect(logins: Logins) -> Engine:
    """The engine of this machine; nothing is asked of it yet. Raises ExtraMissing without the Docker SDK."""
    if plugin := find_plugin(logins):
        return Buildx(plugin, logins)
    try:
        from pipeline.edges.docker_engine import DockerEngine
    except ModuleNotFoundError as error:
        raise ExtraMissing(f"building needs the Python package {error.name!r}, or Docker's buildx plugin") from None
    return DockerEngine(logins)
