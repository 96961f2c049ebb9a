"""What the site of STAViS has: one archive a kind and database, and how each looks once it is unpacked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stavis.datasets.layout import DATABASES, SPLITS, Layout
from stavis.errors import StavisError
from stavis.fetching.archive import ArchiveError

SITE = "http://cvsp.cs.ntua.gr/research/stavis"
"""Where the authors of STAViS publish data and weights, as their `fetch_data.sh` has it."""


@dataclass(frozen=True)
class Kind:
    """What the site has of every database, or once for all.

    Attributes:
        name: As `stavis fetch` calls it.
        folder: Its folder on the site and in the published layout.
        is_per_database: One archive a database.
        unpacked_ratio: Unpacked size over the archive's, a rough guess for the check of free space.
        max_ratio: A ratio that honest files of the kind stay below: JPEGs and weights hardly shrink, waves somewhat,
            an uncompressed fixation map is nearly all zeros (gzip itself ends at 1032).
        counted: What is counted in it when it has arrived.
    """

    name: str
    folder: str
    is_per_database: bool
    unpacked_ratio: float
    max_ratio: float
    counted: str


KINDS = (
    Kind("lists", "fold_lists", False, 10.0, 200.0, "fold lists"),
    Kind("weights", "pretrained_models", False, 1.2, 20.0, "checkpoints"),
    Kind("audio", "video_audio", True, 1.5, 100.0, "videos"),
    Kind("annotations", "annotations", True, 2.0, 1000.0, "videos"),
    Kind("datasets", "video_frames", True, 1.1, 20.0, "videos"),
)
"""In the order in which they are fetched, the small ones first."""

PART_NAMES = ("datasets", "annotations", "audio", "lists", "weights")


@dataclass(frozen=True)
class Part:
    """One archive of the site."""

    kind: Kind
    database: str | None

    @property
    def name(self) -> str:
        """Its folder below the data folder: "video_frames/AVAD", "fold_lists"."""
        return self.kind.folder if self.database is None else f"{self.kind.folder}/{self.database}"

    @property
    def archive(self) -> str:
        """Its archive's path below `<site>/data`."""
        return f"{self.name}.tar.gz"


def select_parts(names: Sequence[str] = (), databases: Sequence[str] = ()) -> list[Part]:
    """The archives that the names of parts and databases stand for; none of either means all.

    Raises:
        StavisError: There is no part or database of such a name.
    """
    for name in names:
        if name not in PART_NAMES:
            raise StavisError(f"no part {name!r}; parts are {', '.join(PART_NAMES)}")
    for database in databases:
        if database not in DATABASES:
            raise StavisError(f"no database {database!r}; databases are {', '.join(DATABASES)}")
    parts = []
    for kind in KINDS:
        if names and kind.name not in names:
            continue
        if kind.is_per_database:
            parts += [
                Part(kind, database) for database in DATABASES if not databases or database in databases
            ]
        else:
            parts.append(Part(kind, None))
    return parts


def find_root(part: Part, archive: Path, staging: Path) -> tuple[Path, list[Path]]:
    """The folder of an unpacked archive that is the part's, and the files that stand beside the way to it.

    The authors' script unpacks an archive above the folder, so its top should be the folder itself; one whose top is
    the folder's content, or that has the whole path, is as good.
    """
    root = staging
    outside = []
    while not _holds(part, root):
        entries = sorted(root.iterdir())
        folders = [path for path in entries if path.is_dir() and not path.is_symlink()]
        outside += [path for path in entries if path not in folders]
        if len(folders) != 1:
            found = ", ".join(ascii(path.name) for path in entries[:5]) or "nothing"
            raise ArchiveError(
                f"{archive}: holds no {part.name}: in it are {found}; wanted is {_wanted(part)}"
            )
        root = folders[0]
        if part.database is not None and root.name in set(DATABASES) - {part.database}:
            raise ArchiveError(f"{archive}: holds {root.name} instead of {part.name}")
    return root, outside


def _wanted(part: Part) -> str:
    return {
        "datasets": "<video>/img_00001.jpg",
        "audio": "<video>/<video>.wav",
        "annotations": "<video>/maps/eyeMap_00001.jpg",
        "lists": "<database>_list_<train|test>_<split>_fps.txt",
        "weights": "<name>.pth or stavis_<modality>/<name>.pth",
    }[part.kind.name]


def _holds(part: Part, folder: Path) -> bool:
    """Whether `folder` looks like the part's: it has the first file of a video where the layout has it, say."""
    if part.database is None:
        return count_items(part, folder) > 0
    layout = Layout(Path())
    place = {"datasets": layout.frame, "annotations": layout.density_map}.get(part.kind.name)
    for video in folder.iterdir():
        first = place(part.database, video.name, 0) if place else layout.wave(part.database, video.name)
        if (folder / first.relative_to(part.name)).is_file():
            return True
    return False


def count_items(part: Part, folder: Path) -> int:
    """How many published fold lists or checkpoints, or how many videos of a database, stand in `folder`."""
    if part.database is not None:
        return sum(path.is_dir() for path in folder.iterdir())
    if part.kind.name == "lists":
        layout = Layout(Path())
        names = {
            layout.fold_list(database, subset, split).name
            for database in DATABASES
            for subset in ("train", "test")
            for split in SPLITS
        }
        return sum((folder / name).is_file() for name in names)
    return sum(path.is_file() for path in [*folder.glob("*.pth"), *folder.glob("stavis_*/*.pth")])
