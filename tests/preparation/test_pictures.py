"""`stavis prepare-pictures`: picture sets from files as those of their repositories."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from stavis.errors import StavisError
from stavis.maps.matfile import read_variables
from stavis.preparation.pictures import prepare_pictures
from support.commands import run_command


def write_pictures(folder: Path, names: list[str], size: tuple[int, int]) -> None:
    (folder / "data" / "stimuli").mkdir(parents=True)
    for name in names:
        Image.new("RGB", size, (200, 90, 30)).save(folder / "data" / "stimuli" / name)


def write_struct_set(folder: Path, names: list[str], size: tuple[int, int]) -> Path:
    """A set in the form of OSIE and EyeCrowd: two observers look at each picture, once beside it."""
    write_pictures(folder, names, size)
    cells = np.empty((len(names), 1), object)
    for i, name in enumerate(names):
        subjects = np.empty((2, 1), object)
        subjects[0, 0] = {
            "fix_x": np.array([[10.0, size[0]]]),
            "fix_y": np.array([[20.0, 5.0]]),
            "fix_duration": np.array([[200, 300]], np.uint16),
        }
        subjects[1, 0] = {"fix_x": 30 + 10.0 * i, "fix_y": 0.0, "fix_duration": 150}
        cells[i, 0] = {"img": name, "subjects": subjects}
    (folder / "data" / "eye").mkdir()
    scipy.io.savemat(folder / "data" / "eye" / "fixations.mat", {"fixations": cells}, do_compression=True)
    return folder


def write_cell_set(folder: Path, size: tuple[int, int]) -> Path:
    """A set in the form of Scene500: a matrix of y, x, onset and duration per picture and observer."""
    write_pictures(folder, ["001.jpg", "003.jpg"], size)
    cells = np.empty((3, 2), object)
    for i in range(6):
        cells[i // 2, i % 2] = np.zeros((0, 0))
    cells[0, 0] = np.array([[6.0, 5.0, 0.3, 0.2], [8.0, 7.0, 0.6, 0.1]])
    cells[2, 1] = np.array([[0.0, size[0] - 1, 0.0, 0.4]])
    (folder / "data" / "tidy").mkdir()
    scipy.io.savemat(folder / "data" / "tidy" / "fixations.mat", {"fixations": cells})
    return folder


def test_sets_of_both_forms_in_one_folder(tmp_path: Path) -> None:
    osie = write_struct_set(tmp_path / "a", ["1001.jpg", "1002.jpg"], (80, 60))
    scene = write_cell_set(tmp_path / "b", (40, 20))
    output = tmp_path / "out"
    printed = run_command("prepare-pictures", osie, scene, "-o", output, "--longest-side", 40)
    assert "osie: 2 pictures, 2 observers, 4 fixations (2 outside the pictures dropped)" in printed
    assert "scene500: 2 pictures, 2 observers, 3 fixations (0 outside the pictures dropped)" in printed
    for _ in range(2):  # imported again, a set is replaced
        with np.load(output / "fixations.npz") as file:
            arrays = {key: file[key] for key in file}
        names = arrays["names"].tolist()
        looks = {
            (names[p], o, round(float(x), 4), round(float(y), 4), float(d))
            for p, o, x, y, d in zip(
                *(arrays[key] for key in ("picture", "observer", "x", "y", "duration_ms")), strict=True
            )
        }
        assert looks == {
            ("pictures/osie/1001.jpg", 0, 0.125, 0.3333, 200),
            ("pictures/osie/1001.jpg", 1, 0.375, 0, 150),
            ("pictures/osie/1002.jpg", 0, 0.125, 0.3333, 200),
            ("pictures/osie/1002.jpg", 1, 0.5, 0, 150),
            ("pictures/scene500/001.jpg", 0, 0.125, 0.3, 200),
            ("pictures/scene500/001.jpg", 0, 0.175, 0.4, 100),
            ("pictures/scene500/003.jpg", 1, 0.975, 0, 400),
        }
        assert sorted(names) == sorted({look[0] for look in looks})
        prepare_pictures(osie, output, longest_side=40)
    for name, size in (("osie/1001.jpg", (40, 30)), ("scene500/003.jpg", (40, 20))):
        with Image.open(output / "pictures" / name) as image:
            assert image.size == size


def test_bad_sets_are_refused_in_one_line(tmp_path: Path) -> None:
    folder = write_struct_set(tmp_path / "a", ["001.jpg"], (80, 60))
    gaze = folder / "data" / "eye" / "fixations.mat"
    good = gaze.read_bytes()
    (tmp_path / "empty").mkdir()

    def message(source: Path) -> str:
        with pytest.raises(StavisError) as caught:
            prepare_pictures(source, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out" / "fixations.npz").exists()
        return str(caught.value)

    assert "not a picture set's repository" in message(tmp_path / "empty")
    gaze.write_bytes(good[:-20])
    assert "damaged MATLAB file" in message(folder)
    for cell, problem in (
        (
            {"img": "../../1.jpg", "subjects": np.empty((1, 1), object)},
            "is not a struct with img and subjects",
        ),
        ({"img": "001.jpg"}, "is not a struct with img and subjects"),
    ):
        cells = np.empty((1, 1), object)
        cells[0, 0] = cell
        if "subjects" in cell:
            cell["subjects"][0, 0] = 1.0
        scipy.io.savemat(gaze, {"fixations": cells})
        assert problem in message(folder)
    scipy.io.savemat(gaze, {"other": 1})
    assert "no cell array 'fixations'" in message(folder)
    gaze.write_bytes(good)
    picture = folder / "data" / "stimuli" / "001.jpg"
    picture.write_bytes(b"no picture")
    assert "001.jpg: not a readable picture" in message(folder)
    picture.unlink()
    assert "001.jpg: picture not found, though there is gaze on it" in message(folder)
    with pytest.raises(ValueError, match="longest_side=0"):
        prepare_pictures(folder, tmp_path / "out", longest_side=0)


@pytest.mark.parametrize(
    "damage", ["empty", "cut", "changed", "text", "other arrays", "other lengths", "index"]
)
def test_a_damaged_file_of_fixations_is_named_before_the_work(tmp_path: Path, damage: str) -> None:
    folder = write_struct_set(tmp_path / "a", ["1001.jpg"], (80, 60))
    prepare_pictures(folder, tmp_path / "out")
    file = tmp_path / "out" / "fixations.npz"
    whole = file.read_bytes()
    with np.load(file) as arrays:
        good = dict(arrays)
    match damage:
        case "other arrays":
            np.savez(file, names=good["names"])
        case "other lengths":
            np.savez(file, **{**good, "x": good["x"][:-1]})
        case "index":
            np.savez(file, **{**good, "picture": good["picture"] + 1})
        case _:
            changed = whole[:60] + b"\xff" * 60 + whole[120:]
            file.write_bytes({"empty": b"", "cut": whole[:-40], "changed": changed, "text": b"text"}[damage])
    picture = tmp_path / "out" / "pictures" / "osie" / "1001.jpg"
    picture.unlink()
    with pytest.raises(StavisError, match=r"fixations\.npz: not a file of fixations on pictures"):
        prepare_pictures(folder, tmp_path / "out")
    assert not picture.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "size"),
    [("osie", "eye", (800, 600)), ("eyecrowd", "eye", (1024, 768)), ("scene500", "tidy", None)],
)
def test_original_gaze_gives_the_known_fixations(
    shared: Path, tmp_path: Path, name: str, folder: str, size: tuple[int, int] | None
) -> None:
    originals = shared / "real" / "originals"
    gaze = originals / f"{name}_fixations.mat"
    if size is None:
        sizes = read_variables(originals / "scene500_imgInfo.mat")["imgInfo"]["size"]
        pictures = {f"{i:03d}.jpg": (int(w), int(h)) for i, (h, w) in enumerate(sizes, 1)}
    else:
        pictures = {cell["img"]: size for cell in read_variables(gaze)["fixations"].ravel()}
    stimuli = tmp_path / "repository" / "data" / "stimuli"
    stimuli.mkdir(parents=True)
    for picture, dimensions in pictures.items():
        Image.new("L", dimensions).save(stimuli / picture)  # only its size matters here
    target = tmp_path / "repository" / "data" / folder / "fixations.mat"
    target.parent.mkdir()
    target.write_bytes(gaze.read_bytes())
    (imported,) = prepare_pictures(tmp_path / "repository", tmp_path / "out")
    assert imported.name == name
    # Were Scene500's columns x, y, a fifth of the fixations on pictures that are not square would lie outside.
    assert imported.num_outside == 0 or name != "scene500"
    with (
        np.load(tmp_path / "out" / "fixations.npz") as file,
        np.load(shared / "real" / "fixations.npz") as known,
    ):
        ours, theirs = ({key: f[key] for key in f} for f in (file, known))
    if name == "scene500":  # whose columns the known file takes for x, y: mirrored at the diagonal
        theirs |= {"x": theirs["y"], "y": theirs["x"]}
        pictures = {picture: size for picture, size in pictures.items() if size[0] == size[1]}
    numbers = {picture: i for i, picture in enumerate(ours["names"].tolist())}
    checked = 0
    for i, picture in enumerate(theirs["names"].tolist()):
        if Path(picture).parent.name == name and Path(picture).name in pictures:
            mine, yours = ours["picture"] == numbers[picture], theirs["picture"] == i
            for key in ("observer", "x", "y", "duration_ms"):
                np.testing.assert_array_equal(ours[key][mine], theirs[key][yours])
            checked += 1
    assert checked == {"osie": 600, "eyecrowd": 440, "scene500": 276}[name]
