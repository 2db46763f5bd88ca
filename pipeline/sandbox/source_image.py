"""Stands in for a Docker engine: an image that holds the sources of the commit, and that no machine can run.

What is real about it: the bytes, the digests, the labels and the push.
Source: https://github.com/opencontainers/image-spec/blob/main/config.md and …/manifest.md.
"""

import json
import subprocess
from dataclasses import dataclass

from pipeline.core.progress import Progress
from pipeline.edges.registry import IMAGE_MANIFEST, OciRegistry
from pipeline.errors import BuildFailed
from pipeline.steps.build_image import CREATED_LABEL, Recipe

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class SourceImages:
    """Makes the same bytes of the same commit, whenever and wherever it is asked."""

    registry: OciRegistry

    def build_and_push(self, recipe: Recipe, progress: Progress) -> str:
        """The digest of the manifest, an image's for the first platform that the recipe names.

        Raises BuildFailed when git cannot give the sources, and what pushing raises.
        """
        progress.say(f"Packing the sources of {recipe.context} into one layer, in place of a build")
        layer = self._store(recipe, sources(recipe), _LAYER)
        system, _, architecture = next(iter(recipe.platforms), "linux/amd64").partition("/")
        config = {
            "created": recipe.labels[CREATED_LABEL],
            "os": system,
            "architecture": architecture,
            "config": {"Labels": dict(recipe.labels), "WorkingDir": "/app"},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "config": self._store(recipe, _json(config), _CONFIG),
            "layers": [layer],
        }
        return self.registry.push_manifest(recipe.repository, recipe.tag, _json(manifest), IMAGE_MANIFEST)

    def _store(self, recipe: Recipe, data: bytes, media_type: str) -> dict[str, str | int]:
        """Push a blob and return its descriptor."""
        digest = self.registry.push_blob(recipe.repository, data)
        return {"mediaType": media_type, "size": len(data), "digest": digest}


def sources(recipe: Recipe) -> bytes:
    """A tar of what the commit has in the context: no ignored file gets in, and the times are the commit's."""
    command = ["git", "-c", "tar.umask=0022", "archive", "--format=tar", "--prefix=app/", recipe.tag]
    done = subprocess.run(command, cwd=recipe.context, capture_output=True, check=False)
    if done.returncode:
        raise BuildFailed(f"{recipe.context}: git archive: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
