"""Names of weights: "default", "published-1" to "published-3", "hf://owner/name", or a path."""

import os
from pathlib import Path
from typing import NamedTuple

from stavis.datasets.layout import SPLITS, Layout
from stavis.errors import StavisError
from stavis.model import Modality
from stavis.weights import hub
from stavis.weights.files import WEIGHTS_FILE

DEFAULT = "default"
"""Name of the weights that come with the package."""

DEFAULT_FOLDER = Path(__file__).with_name("default")

UNTRAINED = "untrained"
"""Name of the published network with random weights."""

PUBLISHED_PREFIX = "published-"
DATA_VARIABLE = "STAVIS_DATA"


class Located(NamedTuple):
    path: Path  # a weights folder or a file
    name: str  # what results record: the path, or the name with what it stood for


def locate(
    source: str | os.PathLike[str], modality: Modality | None = None, data: Path | None = None
) -> Located:
    """Finds weights by name (but not "untrained") or path. Those on the Hugging Face Hub are downloaded first.

    Published weights are those of the given modality, "audiovisual" by default, in the data folder, by default
    `data_folder()`.

    Raises StavisError if there are no default weights, published weights were not fetched, or the Hub fails.
    """
    name = os.fspath(source)
    if name == DEFAULT:
        if not has_default_weights():
            raise StavisError(
                "this installation of stavis has no default weights; name a weights folder or a published .pth file"
            )
        return Located(DEFAULT_FOLDER, describe_weights(DEFAULT))
    if name.startswith(hub.SCHEME):
        return Located(*hub.download(name))
    path = find_published(name, modality, data or data_folder()) or Path(source)
    return Located(path, str(path))


def has_default_weights() -> bool:
    """Returns whether this installation comes with weights."""
    return (DEFAULT_FOLDER / WEIGHTS_FILE).is_file()


def describe_weights(weights: str) -> str:
    """Returns the name of weights for the screen and for results."""
    return "default (not the paper's weights)" if weights == DEFAULT else weights


def data_folder() -> Path:
    """Returns the data folder used unless an option names another: $STAVIS_DATA, otherwise `data`."""
    return Path(os.environ.get(DATA_VARIABLE, "data"))


def find_published(weights: str, modality: Modality | None, data: Path) -> Path | None:
    """Finds the file that a name such as "published-1" stands for; None for other names.

    Raises StavisError if there is no such split, or the file was not fetched.
    """
    path = published_path(weights, modality, data)
    if path is not None and not path.is_file():
        raise StavisError(
            f"{path}: the published weights are not there; `stavis fetch weights --data {data}` gets them and nothing "
            f"else (if they are in another data folder, set {DATA_VARIABLE} to it)"
        )
    return path


def published_path(weights: str, modality: Modality | None, data: Path) -> Path | None:
    """Returns where the file named by "published-1" belongs; None for other names."""
    if not weights.startswith(PUBLISHED_PREFIX):
        return None
    names = {f"{PUBLISHED_PREFIX}{split}": split for split in SPLITS}
    if weights not in names:
        raise StavisError(f"weights {weights}: allowed are {', '.join(names)}")
    return Layout(data).published_weights(modality or "audiovisual", names[weights])
