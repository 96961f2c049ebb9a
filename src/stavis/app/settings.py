"""Settings and limits of the web application."""

import importlib.util
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stavis.errors import StavisError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class AppSettings:
    """What `stavis app` serves, to whom, and how much of it."""

    host: str = "127.0.0.1"  # address to listen on
    port: int = 8090  # port to listen on; 0 for any free one
    weights: str = "default"  # network that predicts, as for `stavis predict --weights`
    # Which network to take from a published .pth; None to tell by its name.
    modality: Literal["audiovisual", "visual"] | None = None
    device: str = "auto"  # "auto", "cpu", "cuda" or "cuda:N"
    folder: Path | None = None  # where jobs live; None for the user's cache folder
    # Secret that every request must carry, of printable ASCII without spaces; None where none is required.
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()  # further host names under which the server may be addressed
    max_upload_megabytes: int = 1000  # largest video file
    max_seconds: float = 600.0  # longest video
    max_pixels: int = 4096 * 2304  # largest picture, width times height
    max_waiting: int = 20  # jobs that may wait, uploads in progress included
    jobs: int = 1  # jobs that run at the same time
    job_seconds: float = 7200.0  # longest time a job may take
    memory_megabytes: int = 6000  # most memory a worker process may allocate
    keep_hours: float = 24.0  # how long results are kept
    max_kept: int = 100  # how many jobs are kept; the oldest go first
    max_live: int = 2  # live sessions at the same time

    def __post_init__(self) -> None:
        for name in ("max_upload_megabytes", "max_pixels", "max_waiting", "jobs", "memory_megabytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}; allowed: 0 to 65535")
        if unusable := {one for one in self.token or "" if not "!" <= one <= "~"}:
            raise ValueError(f"token contains {min(unusable)!r}; allowed: printable ASCII without spaces")
        if not self.is_local and not self.token:
            raise ValueError(f"host is {self.host!r}, which other machines can reach; a token is required")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def of_worker(self) -> dict[str, Any]:
        names = ("weights", "modality", "device", "memory_megabytes")
        return {name: getattr(self, name) for name in names}

    @property
    def job_folder(self) -> Path:
        if self.folder is not None:
            return self.folder
        base = os.environ.get("XDG_CACHE_HOME")
        return (Path(base) if base else Path.home() / ".cache") / "stavis" / "app"


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES


def require_packages() -> None:
    """Raises StavisError unless the packages of `stavis[app]` are installed."""
    for package in ("starlette", "uvicorn", "python_multipart", "websockets"):
        if importlib.util.find_spec(package) is None:
            raise StavisError(f"this needs {package.replace('_', '-')}: pip install 'stavis[app]'")
