"""Work on several videos: finished ones are skipped, a failure does not stop the others."""

import json
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from stavis.errors import StavisError, describe_unexpected
from stavis.runtime.folders import check_folder, check_record, read_record


def is_finished(
    record: Path, settings: dict[str, Any], outputs: Iterable[Path], *, overwrite: bool = False
) -> bool:
    """Whether `record`, a JSON file written last, shows that the same work was done and its outputs exist.

    Its entry `settings`, what decides the outputs, is compared.

    Raises StavisError if `record` belongs to other settings.
    """
    check_folder(record.parent)
    earlier = None if overwrite else read_record(record, "a record of finished work")
    if earlier is None:
        return False
    wanted = json.loads(json.dumps(settings, default=str))
    check_record(record.parent, earlier.get("settings", {}), wanted, "results")
    return all(path.exists() for path in outputs)


def for_each(
    tasks: Iterable[tuple[Path, Path]],
    work: Callable[[Path, Path], str],
    report: Callable[[str], None],
    *,
    quiet: bool,
    verbose: bool = False,
) -> None:
    """Does `work(video, folder)` for each task and reports its line; `verbose` shows tracebacks of unexpected errors.

    Raises StavisError at the end if any failed.
    """
    tasks, failures = list(tasks), []
    for video, folder in tasks:
        try:
            check_folder(folder)
            line = work(video, folder)
        except StavisError as error:
            failures.append(str(error))
        except OSError as error:
            failures.append(f"{error.filename or folder}: {error.strerror or error}")
        except Exception as error:  # whatever it is, it is this video's failure
            failures.append(f"{video}: {describe_unexpected(error)}")
            if verbose:
                report("".join(traceback.format_exception(error)).rstrip())
        else:
            if not quiet:
                report(line)
    if failures and len(tasks) == 1:
        raise StavisError(failures[0])
    if failures:
        for failure in failures:
            report(f"failed: {failure}")
        raise StavisError(f"{len(failures)} of {len(tasks)} inputs failed, listed above; the rest is done")
