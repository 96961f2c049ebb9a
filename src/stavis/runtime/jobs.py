"""Work on several videos: finished ones are skipped, a failure does not stop the others."""

import hashlib
import json
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stavis.errors import StavisError, counted, describe_unexpected
from stavis.runtime.folders import check_folder, check_record, read_record


def is_finished(
    record: Path, settings: dict[str, Any], outputs: Iterable[Path], *, overwrite: bool = False
) -> bool:
    """Whether `record`, a JSON file written last, shows that the same work was done and its outputs exist.

    Its entry `settings`, what decides the outputs, is compared; its entry `outputs` names the files made with them.

    Raises StavisError if `record` belongs to other settings.
    """
    check_folder(record.parent)
    earlier = None if overwrite else read_record(record, "a record of finished work")
    if earlier is None:
        return False
    wanted = json.loads(json.dumps(settings, default=str))
    check_record(record.parent, earlier.get("settings", {}), wanted, "results")
    made = earlier.get("outputs", [])
    return all(path.name in made and path.exists() for path in outputs)


def begin_outputs(record: Path, outputs: Iterable[Path], *, overwrite: bool = False) -> list[str]:
    """The entry `outputs` of the next `record`: these, and what is there already of the same settings.

    Called just before outputs are replaced. With `overwrite` the record is removed, so that none of other settings
    stands beside them if that is interrupted.
    """
    earlier = None if overwrite else read_record(record, "a record of finished work")
    if overwrite:
        record.unlink(missing_ok=True)
    return sorted({*(earlier or {}).get("outputs", []), *(path.name for path in outputs)})


def describe_inputs(
    video: Path, maps: Path | npt.NDArray[np.floating] | None, weights: str | None
) -> dict[str, Any]:
    """What of a video (a file, or a folder of images) and its maps is compared to notice that they changed.

    Raises StavisError if the file of maps does not exist.
    """
    files = [video] if video.is_file() else [path for path in video.glob("[!.]*") if path.is_file()]
    described: dict[str, Any] = {
        "video": str(video.absolute()),
        "video_size_bytes": sum(path.stat().st_size for path in files),
        "weights": weights if maps is None else None,
        "maps": None,
    }
    if isinstance(maps, Path):
        try:
            status = maps.stat()
        except FileNotFoundError:
            raise StavisError(f"{maps}: no such file of maps") from None
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
        described["maps"] = f"{maps.absolute()} of {status.st_size} bytes, modified {modified}"
    elif maps is not None:
        digest = hashlib.sha256(np.ascontiguousarray(maps).data).hexdigest()
        described["maps"] = f"{maps.dtype} {maps.shape} {digest[:16]}"
    return described


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
        raise StavisError(
            f"{len(failures)} of {counted(len(tasks), 'inputs')} failed, listed above; the rest is done"
        )
