"""Jobs: videos that wait, run in worker processes of their own, and leave results."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from starlette.exceptions import HTTPException

from stavis.app.options import PredictForm
from stavis.app.settings import AppSettings
from stavis.app.upload import Upload
from stavis.app.worker import REQUEST, RESULTS, VIDEO
from stavis.errors import StavisError, one_line
from stavis.media.container import reason
from stavis.prediction.outputs import choose_outputs
from stavis.runtime.files import read_json, write_text

Status = Literal["queued", "running", "finished", "failed", "cancelled", "interrupted"]
RECORD = "job.json"
MARKER = ".stavis-upload"  # in every folder that is made here, so that no other is ever removed
LOG = "log.txt"
EVERYTHING = "all.zip"
PROBE_SECONDS = 30.0
PROBES = 2  # at the same time
TIDY_SECONDS = 60.0
_ID_BYTES = 12
_ID = re.compile(r"[A-Za-z0-9_-]{16}")  # 12 bytes in base64

_log = logging.getLogger("stavis.app")


@dataclass
class Job:
    id: str  # random; also the name of its folder
    name: str  # what the client calls the video, for display only
    status: Status = "queued"  # where it stands
    options: dict[str, Any] = field(default_factory=dict)  # fields of its `PredictForm`
    # Width, height, frame rate, duration and whether it has sound.
    info: dict[str, Any] = field(default_factory=dict)
    created: float = field(default_factory=time.time)  # seconds since 1970
    finished: float | None = None  # likewise; None while it waits or runs
    progress: float = 0.0  # 0 to 1
    frames_per_second: float | None = None  # of what runs now
    seconds_left: float | None = None  # estimate
    error: str | None = None  # why it failed
    results: list[str] = field(default_factory=list)  # names of its results
    has_page: bool = False  # whether there is something for the page to play
    outcome: dict[str, Any] = field(default_factory=dict)  # number of frames, warnings, name of the weights

    @property
    def is_open(self) -> bool:
        return self.status in ("queued", "running")


class Jobs:
    """The queue, its workers and what they leave on disk. All methods run on one event loop.

    Raises StavisError if another server uses the same folder.
    """

    def __init__(self, settings: AppSettings) -> None:
        self.settings = settings
        self.folder = settings.job_folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = FileLock(self.folder / ".lock", thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StavisError(f"{self.folder}: in use by another server; give `folder` another one") from None
        self._jobs: dict[str, Job] = {}
        self._num_arriving = 0
        self._changed = asyncio.Event()
        self._probes = asyncio.Semaphore(PROBES)
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._read_folder()

    # Requests --------------------------------------------------------------------------------------------------

    def all(self) -> list[Job]:
        """Every job, the newest first."""
        return sorted(self._jobs.values(), key=lambda job: -job.created)

    def get(self, job_id: str) -> Job:
        """The job of this id; HTTPException 404 if there is none."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise HTTPException(404, "no such job") from None

    @contextlib.asynccontextmanager
    async def arriving(self) -> AsyncIterator[Path]:
        """Reserves a place in the queue and gives a folder for an upload, removed if the block fails.

        Raises HTTPException with 429 if too many jobs wait, and with 507 if the disk is full or fills up in the block.
        """
        num_waiting = sum(job.status == "queued" for job in self._jobs.values()) + self._num_arriving
        if num_waiting >= self.settings.max_waiting:
            raise HTTPException(
                429, f"{num_waiting} jobs are waiting already; try again later", {"retry-after": "30"}
            )
        wanted = (2 + self._num_arriving) * self.settings.max_upload_megabytes * 10**6
        if shutil.disk_usage(self.folder).free < wanted:
            raise HTTPException(507, "the server's disk is nearly full")
        folder = self.folder / secrets.token_urlsafe(_ID_BYTES)
        self._num_arriving += 1
        try:
            folder.mkdir(mode=0o700)
            (folder / MARKER).touch()
            yield folder
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise HTTPException(507, "the server's disk is full") from error
            raise
        finally:
            self._num_arriving -= 1

    async def add(self, folder: Path, upload: Upload, form: PredictForm) -> Job:
        """Looks at an upload and queues it; HTTPException 415 if it is not a video, 422 if it exceeds a limit."""
        options = form.model_dump() | {"kinds": choose_outputs(form.outputs)}
        job = Job(folder.name, upload.file_name or VIDEO, options=options)
        self._write_request(job, None)
        async with self._probes:
            answer = await self._ask(job, "probe", PROBE_SECONDS)
        if "result" not in answer:
            raise HTTPException(415, answer.get("error", "the video cannot be read"))
        job.info = info = answer["result"]
        if info["width"] * info["height"] > self.settings.max_pixels:
            raise HTTPException(
                422,
                f"the video has pictures of {info['width']}x{info['height']}; "
                f"at most {self.settings.max_pixels / 1e6:.1f} megapixels are allowed",
            )
        start, end, duration = form.start or 0.0, form.end, info["duration"]
        lasts = (min(duration, end) if end is not None else duration) - start if duration is not None else 0.0
        if lasts > self.settings.max_seconds:
            raise HTTPException(
                422,
                f"the video lasts {lasts:.0f} s; at most {self.settings.max_seconds:.0f} s are allowed "
                "(choose a part of it with start and end)",
            )
        # Headers may be wrong, or not tell.
        self._write_request(job, min(end or float("inf"), start + self.settings.max_seconds))
        self._save(job)
        self._jobs[job.id] = job
        self._changed.set()
        return job

    async def remove(self, job: Job) -> None:
        """Cancels a job that waits or runs; removes one that has ended with everything it left."""
        if not job.is_open:
            self._jobs.pop(job.id, None)
            await asyncio.to_thread(shutil.rmtree, self.folder / job.id, ignore_errors=True)
            return
        job.status = "cancelled"
        if (process := self._processes.get(job.id)) is not None:
            kill(process)
            await process.wait()  # until then it may write
        if job.id in self._jobs:  # not removed in the meantime
            self._end(job, "cancelled")

    def result(self, job: Job, name: str) -> Path:
        """The file or folder of a result; HTTPException 404 if there is none.

        Only listed names are found, so that none from outside becomes a path.
        """
        if name in job.results or (job.has_page and name in PAGE_FILES and job.status == "finished"):
            path = self.folder / job.id / RESULTS / ("" if name == EVERYTHING else name.removesuffix(".zip"))
            if path.exists():
                return path
        raise HTTPException(404, "no such result")

    # Life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run_jobs()) for _ in range(self.settings.jobs)]
        self._tasks.append(asyncio.create_task(self._tidy()))

    async def stop(self) -> None:
        """Ends everything that runs and removes uploads and unfinished results."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in list(self._jobs.values()):
            if job.is_open:
                self._end(job, "interrupted", "the server stopped before this job finished")
        if self.settings.keep_hours == 0:
            for job in self._jobs.values():
                shutil.rmtree(self.folder / job.id, ignore_errors=True)
        self._lock.release()

    async def _run_jobs(self) -> None:
        while True:
            waiting = [job for job in self._jobs.values() if job.status == "queued"]
            if not waiting:
                self._changed.clear()
                await self._changed.wait()
                continue
            job = min(waiting, key=lambda one: one.created)
            job.status = "running"
            try:
                self._save(job)
                answer = await self._ask(job, "predict", self.settings.job_seconds)
            except Exception as error:  # the queue goes on, whatever is wrong with one job
                answer = {"error": f"the job cannot be run: {reason(error)}"}  # no path of the server
                _log.warning("job %s cannot be run: %s", job.id, one_line(error))
            if not job.is_open:  # cancelled
                continue
            if "result" in answer:
                job.outcome = answer["result"]
                self._end(job, "finished")
            else:
                self._end(job, "failed", answer.get("error", "the worker process crashed"))

    async def _ask(self, job: Job, mode: str, seconds: float) -> dict[str, Any]:
        """Runs a worker process; returns its last message."""
        folder = self.folder / job.id
        with (folder / LOG).open("ab") as log:
            process = await start("stavis.app.worker", mode, str(folder), stderr=log)
        self._processes[job.id] = process
        if not job.is_open:  # cancelled while the process started
            kill(process)
        answer: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                assert process.stdout is not None
                while line := await process.stdout.readline():
                    answer = json.loads(line)
                    for name in ("progress", "frames_per_second", "seconds_left"):
                        if name in answer:
                            setattr(job, name, answer[name])
                await process.wait()
        except TimeoutError:
            answer = {"error": f"stopped after {seconds:.0f} seconds, the longest that is allowed"}
        except ValueError:
            answer = {"error": "the worker process sent something else than messages"}
        finally:
            kill(process)
            await process.wait()
            del self._processes[job.id]
        code = process.returncode
        if not answer.keys() & {"result", "error"}:
            why = f"was killed (signal {-code})" if code and code < 0 else f"ended with status {code}"
            answer = {"error": f"the worker process {why}; perhaps the video is damaged, or memory ran out"}
            if job.is_open:  # not cancelled
                _log.warning("job %s: %s; its output is in %s", job.id, answer["error"], folder / LOG)
        return answer

    def _end(self, job: Job, status: Status, error: str | None = None) -> None:
        job.status, job.error, job.finished = status, error, time.time()
        job.seconds_left = job.frames_per_second = None
        job.results, job.has_page = [], False
        try:
            self._clear(job)
            self._save(job)
        except OSError as problem:
            _log.warning("job %s (%s): %s", job.id, status, one_line(problem))
            if status == "finished":
                self._end(job, "failed", f"the results cannot be kept: {reason(problem)}")

    def _clear(self, job: Job) -> None:
        """Removes the upload of a job that has ended; lists its results, or removes unfinished ones."""
        folder = self.folder / job.id
        (folder / VIDEO).unlink(missing_ok=True)
        if job.status == "finished":
            job.progress = 1.0
            job.results = list(_result_names(folder / RESULTS))
            job.has_page = (folder / RESULTS / PAGE_FILES[0]).exists()
        else:
            for leftover in (folder / RESULTS, *folder.glob(f".{RESULTS}*")):
                shutil.rmtree(leftover, ignore_errors=True)

    async def _tidy(self) -> None:
        """Removes jobs that are too old or too many, once a minute."""
        while True:
            ended = [job for job in self.all() if not job.is_open]
            oldest = time.time() - (self.settings.keep_hours or float("inf")) * 3600
            for number, job in enumerate(ended):
                if number >= self.settings.max_kept or (job.finished or 0) < oldest:
                    await self.remove(job)
            await asyncio.sleep(TIDY_SECONDS)

    # Disk ------------------------------------------------------------------------------------------------------

    def _read_folder(self) -> None:
        known = {one.name for one in fields(Job)}
        # Whatever else lies in the folder is the user's.
        for folder in [path for path in self.folder.iterdir() if _ID.fullmatch(path.name) and path.is_dir()]:
            record = read_json(folder / RECORD)
            if not isinstance(record, dict) or record.get("id") != folder.name or "name" not in record:
                if (folder / MARKER).exists():  # an upload that was cut off
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            job = Job(**{name: value for name, value in record.items() if name in known})
            self._jobs[job.id] = job
            if job.is_open:
                self._end(job, "interrupted", "the server stopped before this job finished")

    def _save(self, job: Job) -> None:
        write_text(self.folder / job.id / RECORD, json.dumps(asdict(job)))

    def _write_request(self, job: Job, end: float | None) -> None:
        request = {
            "name": job.name,
            "options": job.options,
            "end": job.options["end"] if end is None else end,
            "settings": self.settings.of_worker,
        }
        write_text(self.folder / job.id / REQUEST, json.dumps(request))


PAGE_FILES = ("page/page.json", "page/video.mp4", "page/maps.u8", "page/without-sound.u8")


def _result_names(results: Path) -> Iterator[str]:
    """Names of results as clients see them: files, folders of pictures as `NAME.zip`, and everything as `all.zip`."""
    yield EVERYTHING
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        if path.is_file() and not name.startswith(("page/", "maps/", "pred_sal/")):
            yield name
        elif path.is_dir() and name in ("maps", "pred_sal"):
            yield f"{name}.zip"


async def start(module: str, *arguments: str, **options: Any) -> asyncio.subprocess.Process:
    """Starts a worker process, a module of this package, between two pipes."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        **options,
    )


def kill(process: asyncio.subprocess.Process) -> None:
    """Kills a worker process and everything that it started."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, 9)
        else:
            process.kill()
