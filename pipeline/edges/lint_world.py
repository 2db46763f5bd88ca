"""What `lint` stands on: a folder's files, its renderer, and processes that look through texts."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pipeline.edges import kustomize, lint_files, lint_scan, yaml_values
from pipeline.steps.lint import Outside

_STYLES = (".yamllint", ".yamllint.yaml", ".yamllint.yml")


@contextmanager
def open_folder(root: Path) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], Outside]]:
    """The files, what was left out of them, and the outside world for the step. Raises ModuleNotFoundError."""
    import detect_secrets  # noqa: F401 -- as the next
    import yamllint  # noqa: F401 -- what is missing must be said before anything is done

    files, left_out = lint_files.list_files(root)
    own_style = next((name for name in _STYLES if name in files), None)
    command = kustomize.program()
    jobs = os.cpu_count() or 2
    # A worker that is forked has everything loaded already.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    with ProcessPoolExecutor(jobs, multiprocessing.get_context(method), _die_quietly) as pool:
        try:
            yield (
                files,
                left_out,
                Outside(
                    read=lambda name: lint_files.read(root, name),
                    parse=yaml_values.parse,
                    scan=lambda names: pool.submit(lint_scan.scan, root, names, own_style),
                    render=(lambda folder: kustomize.build(command, root, folder)) if command else None,
                    jobs=jobs,
                ),
            )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _die_quietly() -> None:
    """In a worker: a signal ends it at once and without a word, since the command has a message for it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
