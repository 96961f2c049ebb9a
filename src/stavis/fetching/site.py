"""What can be fetched: the archives of the authors' site and of picture sets, and how each looks when unpacked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from stavis.datasets.layout import DATABASES, SPLITS, SUBSETS, Layout
from stavis.errors import StavisError
from stavis.fetching.archive import ArchiveError

SITE = "http://cvsp.cs.ntua.gr/research/stavis"
"""Where the authors of STAViS publish data and weights, as in their `fetch_data.sh`."""

GITHUB = "https://github.com"
PICTURE_SETS = {
    "osie": "NUS-VIP/predicting-human-gaze-beyond-pixels/archive/4a467890.tar.gz",
    "eyecrowd": "NUS-VIP/saliency-in-crowd/archive/8bb0416e.tar.gz",
    "scene500": "Yanakz/Scene/archive/2cf042b0.tar.gz",
}
"""Pictures with gaze: set -> the archive of its repository on GitHub at one commit."""

PartName = Literal["datasets", "annotations", "audio", "lists", "weights", "pictures"]
PART_NAMES: tuple[PartName, ...] = get_args(PartName)


@dataclass(frozen=True)
class Kind:
    """What there is for every database, or once for all of them."""

    name: PartName  # its name in `stavis fetch`
    folder: str  # its folder on the site and in the data folder
    # Those that have an archive of their own; none where there is one archive for all.
    databases: Sequence[str]
    unpacked_ratio: float  # unpacked size divided by the archive's, a rough guess for the check of free space
    # A ratio that honest files of the kind stay below: JPEGs and weights hardly shrink, audio somewhat, an uncompressed
    # fixation map is nearly all zeros (gzip itself ends at 1032).
    max_ratio: float
    counted: str  # what is counted in it when it has arrived
    example: str  # a path in it, for error messages


KINDS = (
    Kind("lists", "fold_lists", (), 10, 200, "fold lists", "<database>_list_<train|test>_<split>_fps.txt"),
    Kind("weights", "pretrained_models", (), 1.2, 20, "checkpoints", "stavis_<modality>/<name>.pth"),
    Kind("audio", "video_audio", DATABASES, 1.5, 100, "videos", "<video>/<video>.wav"),
    Kind("annotations", "annotations", DATABASES, 2, 1000, "videos", "<video>/maps/eyeMap_00001.jpg"),
    Kind("datasets", "video_frames", DATABASES, 1.1, 20, "videos", "<video>/img_00001.jpg"),
    Kind("pictures", "picture_sets", tuple(PICTURE_SETS), 2, 100, "pictures", "data/*/fixations.mat"),
)
"""In the order in which they are fetched, the small ones first."""


@dataclass(frozen=True)
class Part:
    kind: Kind
    database: str | None

    @property
    def name(self) -> str:
        """Its folder below the data folder: "video_frames/AVAD", "fold_lists"."""
        return self.kind.folder if self.database is None else f"{self.kind.folder}/{self.database}"

    @property
    def archive(self) -> str:
        """The path of its archive in a folder of archives."""
        return f"{self.name}.tar.gz"

    def url(self, base_url: str | None) -> str:
        """The address of its archive, on its own site or on another one with the same paths."""
        if self.kind.name == "pictures" and self.database is not None:
            return f"{base_url or GITHUB}/{PICTURE_SETS[self.database]}"
        return f"{base_url or SITE}/data/{self.archive}"

    def count(self, folder: Path) -> int:
        """Number of videos of a database, or of published fold lists, checkpoints or pictures, in `folder`."""
        if self.kind.name == "lists":
            fold_list = Layout(Path()).fold_list
            names = {fold_list(d, subset, k).name for d in DATABASES for subset in SUBSETS for k in SPLITS}
            return sum((folder / name).is_file() for name in names)
        if self.kind.name == "weights":
            return sum(path.is_file() for path in [*folder.glob("*.pth"), *folder.glob("stavis_*/*.pth")])
        if self.kind.name == "pictures":
            return len(list(folder.glob("data/stimuli/*.jpg"))) if any(folder.glob(self.kind.example)) else 0
        return sum(path.is_dir() for path in folder.iterdir())


def select_parts(names: str | Sequence[str] = (), databases: str | Sequence[str] = ()) -> list[Part]:
    """Selects archives by the names of parts and databases. No names: all but pictures; no databases: all of them.

    Raises StavisError if there is no part or database of such a name.
    """
    names = [names] if isinstance(names, str) else names
    databases = [databases] if isinstance(databases, str) else databases
    for name in names:
        if name not in PART_NAMES:
            raise StavisError(f"no part {name!r}; parts are {', '.join(PART_NAMES)}")
    kinds = [kind for kind in KINDS if (kind.name in names if names else kind.name != "pictures")]
    known = list(dict.fromkeys(database for kind in kinds for database in kind.databases)) or DATABASES
    for database in databases:
        if database not in known:
            raise StavisError(f"no database {database!r}; databases are {', '.join(known)}")
    parts = []
    for kind in kinds:
        chosen = [database for database in kind.databases if not databases or database in databases]
        parts += [Part(kind, database) for database in (chosen if kind.databases else [None])]
    return parts


def find_root(part: Part, archive: Path, staging: Path) -> tuple[Path, list[Path]]:
    """Finds the folder of an unpacked archive that is the part's, and the files beside the way to it.

    The authors' script unpacks an archive above the folder, so its top should be the folder itself; an archive whose
    top is the folder's content, or that has the whole path, is accepted, too.
    """
    root = staging
    outside = []
    while not _contains(part, root):
        entries = sorted(root.iterdir())
        folders = [path for path in entries if path.is_dir() and not path.is_symlink()]
        outside += [path for path in entries if path not in folders]
        if len(folders) != 1:
            found = ", ".join(ascii(path.name) for path in entries[:5]) or "nothing"
            raise ArchiveError(
                f"{archive}: contains no {part.name}: in it are {found}; expected {part.kind.example}"
            )
        root = folders[0]
        if part.database is not None and root.name in set(part.kind.databases) - {part.database}:
            raise ArchiveError(f"{archive}: contains {root.name} instead of {part.name}")
    return root, outside


def _contains(part: Part, folder: Path) -> bool:
    """Whether `folder` looks like the part's: it has the first file of a video where the layout has it, for example."""
    if part.database is None or part.kind.name == "pictures":
        return part.count(folder) > 0
    layout = Layout(Path())
    place = {"datasets": layout.frame, "annotations": layout.density_map}.get(part.kind.name)
    for video in folder.iterdir():
        first = place(part.database, video.name, 0) if place else layout.wave(part.database, video.name)
        if (folder / first.relative_to(part.name)).is_file():
            return True
    return False
