"""`stavis evaluate`: the recorded pipeline, the forms of predictions, bad input, baselines, comparison."""

import csv
import json
import math
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stavis import maps, metrics
from stavis.datasets.fold_lists import read_fold_list
from stavis.datasets.layout import Layout, result_folder
from stavis.errors import StavisError
from stavis.metrics.negatives import SameVideoNegatives, VideoFixations, merge_scaled, pixels_of
from support.commands import run_command
from support.datasets import write_data_set

OCTAVE_NAMES = {
    "cc": "CC",
    "sim": "similarity",
    "nss": "NSS",
    "auc_judd": "AUC_Judd",
    "auc_shuffled": "AUC_shuffled1",
}


def evaluate(*arguments: object) -> str:
    return run_command("evaluate", *arguments)


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def frame_scores(
    output: Path, method: str = "predictions"
) -> dict[tuple[str, int, str], dict[str, list[float]]]:
    """(database, split, video) -> metric -> scores, from frames.csv."""
    scores: dict[tuple[str, int, str], dict[str, list[float]]] = {}
    with (output / "frames.csv").open() as file:
        for row in csv.DictReader(file):
            if row["method"] == method:
                video = scores.setdefault((row["database"], int(row["split"]), row["video"]), {})
                video.setdefault("frame", []).append(int(row["frame"]))
                for metric in OCTAVE_NAMES:
                    video.setdefault(metric, []).append(float(row[metric]) if row[metric] else math.nan)
    return scores


# --- The recorded pipeline --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(goldens: Path) -> Path:
    return goldens / "metrics" / "tree"


@pytest.fixture(scope="module")
def recorded(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our evaluation of the recorded tree."""
    output = tmp_path_factory.mktemp("recorded") / "evaluation"
    runs = sorted((tree / "experiments").iterdir())
    assert len(runs) == 1
    evaluate("--data", tree / "data", "--predictions", runs[0], "--output", output, "--quiet", "--jobs", 1)
    return output


def test_frames_score_as_in_octave(recorded: Path, goldens: Path) -> None:
    ours = frame_scores(recorded)
    octave = load(goldens / "metrics" / "pipeline_octave.json")
    folders = {result_folder(database): database for database, *_ in ours}
    for video in octave["videos"]:
        folder, _, split = video["results_dir"].partition("_results_all_split")
        scores = ours[folders[folder], int(split), video["video"]]
        assert scores["frame"] == video["prediction_frames"][: video["n_evaluated"]]
        for metric, name in OCTAVE_NAMES.items():
            recorded_scores = video[name]
            if metric in ("cc", "sim", "nss"):
                expected = np.array(recorded_scores["frames"], dtype=float)
                np.testing.assert_allclose(
                    scores[metric], expected, rtol=0, atol=1e-9, err_msg=str(video["video"])
                )
                continue
            expected = np.array(recorded_scores["frames_mean"], dtype=float)
            deviation = np.array(recorded_scores["frames_std"], dtype=float)
            tolerance = 5 * deviation / math.sqrt(octave["n_seeds"]) + 1e-6
            difference = np.abs(np.array(scores[metric]) - expected)
            assert (np.isnan(difference) == np.isnan(expected)).all()
            assert (np.nan_to_num(difference) <= np.nan_to_num(tolerance)).all(), (video["video"], metric)


def test_databases_average_as_in_octave(recorded: Path, goldens: Path) -> None:
    ours = load(recorded / "scores.json")["databases"]
    octave = load(goldens / "metrics" / "final_octave.json")
    assert ours.keys() == octave.keys()
    for database, of_metrics in octave.items():
        for metric, name in OCTAVE_NAMES.items():
            expected = of_metrics.get(name) or of_metrics[name.removesuffix("1")]
            difference = abs(ours[database][metric] - expected["mean"])
            assert difference <= 5 * expected["std"] / math.sqrt(len(expected["runs"])) + 1e-9, (
                database,
                metric,
            )


def test_final_results_files(recorded: Path, goldens: Path) -> None:
    """The text files are of one seed, so where MATLAB draws random numbers they are a draw from `final_octave.json`."""
    ours = load(recorded / "scores.json")["databases"]
    octave = load(goldens / "metrics" / "final_octave.json")
    for path in sorted((goldens / "metrics" / "final_results_txt").glob("*.txt")):
        database = path.stem.removeprefix("final_results_")
        lines = dict(line.lower().split(": ") for line in path.read_text().splitlines() if ": " in line)
        for metric, name in OCTAVE_NAMES.items():
            name = name.removesuffix("1")
            recorded_metric = octave[database].get(name) or octave[database][f"{name}1"]
            noise = 0.0 if metric != "auc_shuffled" else 5 * recorded_metric["std"]
            assert abs(ours[database][metric] - float(lines[name.lower()])) <= 1e-3 + noise, (
                database,
                metric,
            )


def test_undefined_frames_are_counted(recorded: Path) -> None:
    scores = frame_scores(recorded)
    for database, of_database in load(recorded / "scores.json")["databases"].items():
        for metric in OCTAVE_NAMES:
            of_videos = [np.isnan(s[metric]).sum() for (d, *_), s in scores.items() if d == database]
            assert of_database["num_undefined"][metric] == sum(of_videos)
        assert of_database["num_frames"] == sum(
            len(s["cc"]) for (d, *_), s in scores.items() if d == database
        )
        assert sum(of_database["num_undefined"].values()) > 0


# --- A small data set -----------------------------------------------------------------------------------------------

NUM_FRAMES = (14, 11)
SIZE = (72, 128)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DIEM with one test list and AVAD with three alike, of two videos each."""
    return write_data_set(tmp_path_factory.mktemp("data"), num_frames=NUM_FRAMES, audio=False).root


def make_map(seed: int, frame: int, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    """A smooth 8-bit map, another one for every frame."""
    y, x = np.mgrid[: size[0], : size[1]]
    phase = seed + 0.3 * frame
    return np.rint(127.5 * (1 + np.sin(x / size[1] * 5 + phase) * np.cos(y / size[0] * 4 - phase))).astype(
        np.uint8
    )


def videos_of(data: Path, database: str = "DIEM") -> list[Any]:
    return read_fold_list(Layout(data).fold_list(database, "test", 1))


def write_images(
    folder: Path,
    num_frames: int,
    *,
    seed: int = 0,
    begin: int = 8,
    name: str = "pred_sal_{:06d}.png",
    origin: int = 1,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(begin, num_frames):
        Image.fromarray(make_map(seed, frame)).save(folder / name.format(frame + origin))


@pytest.fixture
def published(data: Path, tmp_path: Path) -> Path:
    """Predictions of DIEM in the published layout, another set a split."""
    root = tmp_path / "run"
    for split in (1, 2, 3):
        for number, entry in enumerate(videos_of(data)):
            folder = root / f"split{split}_results" / "diem" / entry.video
            write_images(folder, entry.num_frames, seed=10 * split + number)
    return root


def scores_of(output: Path, database: str = "DIEM") -> dict[str, float]:
    scores = load(output / "scores.json")["databases"][database]
    return {metric: scores[metric] for metric in OCTAVE_NAMES}


def plain_scores(
    data: Path, database: str, video: str, num_frames: int, make: Callable[[int], Any]
) -> np.ndarray:
    """The mean scores of a video by the plain functions, one by one."""
    layout = Layout(data)
    fixations = [maps.read_fixation_map(layout.fixation_map(database, video, t)) for t in range(num_frames)]
    union = maps.union_of_fixations(fixations)
    rows = []
    for frame in range(8, num_frames):
        density = maps.read_density_map(layout.density_map(database, video, frame))
        saliency = maps.resize(maps.postprocess(make(frame)), density.shape)
        fixated = fixations[frame]
        rows.append(
            [
                metrics.cc(saliency, density),
                metrics.sim(saliency, density),
                metrics.nss(saliency, fixated),
                metrics.auc_judd(saliency, fixated),
                metrics.auc_shuffled(saliency, fixated, maps.other_fixations(union, fixated)),
            ]
        )
    return np.mean(rows, axis=0)


def test_published_layout_by_the_plain_functions(data: Path, published: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    printed = evaluate("--data", data, "--predictions", published, "--output", output, "--jobs", 1)
    assert "DIEM" in printed
    assert "these predictions" in printed
    means = [
        plain_scores(data, "DIEM", e.video, e.num_frames, lambda frame, s=10 * k + i: make_map(s, frame))
        for k in (1, 2, 3)
        for i, e in enumerate(videos_of(data))
    ]
    np.testing.assert_allclose(list(scores_of(output).values()), np.mean(means, axis=0), rtol=1e-12)
    assert load(output / "scores.json")["skipped_databases"] == ["AVAD"]
    assert (output / "scores.tex").read_text().count(r"\\") == 5
    assert "DIEM: no inter-observer row" in printed.replace("DIEM, these predictions", "DIEM")
    assert "DIEM, center prior: Gaussian fitted to the training videos" in printed
    assert "| DIEM | STAViS, published | 0.579 | 2.260 |" in (output / "scores.md").read_text()


def write_form(root: Path, form: str, video: str, num_frames: int) -> None:
    """The same maps in one of the forms that predictions come in."""
    frames = range(8, num_frames)
    if form == "numbered":
        write_images(root / video, num_frames, name="{:04d}.png")
    elif form == "below the database":
        write_images(root / "DIEM" / video, num_frames)
    elif form == "from zero":
        write_images(root / video, num_frames, begin=0, name="{:05d}.png", origin=0)
    elif form == "predicted maps":
        write_images(root / video / "maps", num_frames, name="map_{:06d}.png", origin=0)
        Image.fromarray(make_map(0, 0)).save(root / video / "timeline.png")
    else:
        path = root / video / "saliency.npz" if form == "predicted archive" else root / f"{video}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        saliency = np.stack([make_map(0, frame) for frame in frames]).astype(np.float32) / 255
        np.savez(path, saliency=saliency, index=np.array(frames))


@pytest.mark.parametrize(
    "form",
    ["numbered", "below the database", "from zero", "predicted maps", "archive", "predicted archive"],
)
def test_forms_of_predictions_score_alike(form: str, data: Path, tmp_path: Path) -> None:
    videos = videos_of(data)
    for entry in videos:
        write_form(tmp_path / "maps", form, entry.video, entry.num_frames)
    arguments = (
        "--data",
        data,
        "--predictions",
        tmp_path / "maps",
        "--databases",
        "DIEM",
        "--jobs",
        1,
        "--quiet",
    )
    evaluate(*arguments, "--output", tmp_path / "out", "--no-report", "--no-references")
    expected = np.mean(
        [plain_scores(data, "DIEM", e.video, e.num_frames, lambda f: make_map(0, f)) for e in videos], axis=0
    )
    tolerance = 1e-6 if "archive" in form else 1e-12  # float32 there
    np.testing.assert_allclose(list(scores_of(tmp_path / "out").values()), expected, rtol=0, atol=tolerance)
    # The maps and the list are the same in every split, so they are scored, and count, once.
    assert load(tmp_path / "out" / "scores.json")["databases"]["DIEM"]["num_videos"] == len(videos)
    assert len(list((tmp_path / "out" / "videos").rglob("*.json"))) == len(videos)


def test_saliency_videos(data: Path, tmp_path: Path) -> None:
    from stavis import media

    videos = videos_of(data)
    for entry in videos:
        with media.VideoWriter(
            tmp_path / "maps" / f"{entry.video}.mp4", width=SIZE[1], height=SIZE[0], frame_rate=25
        ) as writer:
            for frame in range(entry.num_frames + 2):
                writer.write(np.repeat(make_map(0, frame, SIZE)[..., None], 3, axis=2))
    out = tmp_path / "out"
    evaluate(
        "--data",
        data,
        "-p",
        tmp_path / "maps",
        "--databases",
        "DIEM",
        "-j",
        1,
        "-q",
        "-o",
        out,
        "--no-report",
    )
    expected = np.mean(
        [plain_scores(data, "DIEM", e.video, e.num_frames, lambda f: make_map(0, f, SIZE)) for e in videos],
        axis=0,
    )
    # The video is compressed: a shift by a frame would change the scores by 0.05 and more.
    np.testing.assert_allclose(list(scores_of(out).values())[:3], expected[:3], rtol=0, atol=0.02)
    assert load(out / "scores.json")["databases"]["DIEM"]["num_maps_beyond"] == 2 * len(videos)


def test_names_match_in_either_unicode_form(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    layout, (entry, _) = Layout(tmp_path / "data"), videos_of(data)
    name = unicodedata.normalize("NFC", "caf\u00e9")
    layout.annotations_folder("DIEM", entry.video).rename(layout.annotations_folder("DIEM", name))
    for path in (tmp_path / "data" / "fold_lists").glob("DIEM*test*"):
        path.write_text(f"{name} {entry.num_frames} {entry.frame_rate}\n")
    write_images(tmp_path / "run" / unicodedata.normalize("NFD", name), entry.num_frames)
    arguments = ("--data", layout.root, "-p", tmp_path / "run", "--databases", "DIEM", "-j", 1, "--no-report")
    assert "these predictions" in evaluate(*arguments, "-o", tmp_path / "out")


def test_database_mean_pools_all_lists(data: Path, tmp_path: Path) -> None:
    """As the authors have it: the lists of splits that differ in size, a video in two of them."""
    root = tmp_path / "data"
    shutil.copytree(data, root)
    first, second = videos_of(root, "AVAD")
    lists = {1: [first, second], 2: [second], 3: [second]}
    for split, entries in lists.items():
        text = "".join(f"{e.video} {e.num_frames} {e.frame_rate}\n" for e in entries)
        Layout(root).fold_list("AVAD", "test", split).write_text(text)
        for number, entry in enumerate(entries):
            folder = tmp_path / "run" / f"split{split}_results" / "avad" / entry.video
            write_images(folder, entry.num_frames, seed=10 * split + number)
    out = tmp_path / "out"
    evaluate(
        "--data", root, "-p", tmp_path / "run", "-o", out, "-j", 1, "-q", "--no-report", "--no-references"
    )
    scores = load(out / "scores.json")["databases"]["AVAD"]
    with (out / "videos.csv").open() as file:
        lines = [float(row["cc"]) for row in csv.DictReader(file)]
    assert len(lines) == 4
    assert scores["cc"] == pytest.approx(np.mean(lines), abs=1e-15)
    assert scores["cc"] != pytest.approx(np.mean([s["cc"] for s in scores["splits"].values()]), abs=1e-4)


# --- In Python --------------------------------------------------------------------------------------------------------


def test_evaluation_object(data: Path, published: Path, tmp_path: Path) -> None:
    import stavis

    out = tmp_path / "out"
    evaluation = stavis.evaluate(published, data, out, baselines=["center"], jobs=1, report=False)
    assert evaluation.scores["DIEM"] == scores_of(out)
    center = load(out / "scores.json")["baselines"]["center"]["DIEM"]
    assert evaluation.baselines["center"]["DIEM"]["nss"] == center["nss"]
    assert repr(evaluation) == "Evaluation(predictions, center, shuffled on DIEM, 27 frames)"
    assert "<td>DIEM</td>" in evaluation._repr_html_()
    evaluation.report(tmp_path / "mine.html")
    assert "Best and worst frames" in (tmp_path / "mine.html").read_text()
    table = pytest.importorskip("pandas").read_csv(out / "frames.csv")
    np.testing.assert_allclose(evaluation.to_pandas()["nss"], table["nss"])
    assert list(evaluation.to_pandas().columns) == list(table.columns)
    # Without an output folder nothing is written, and the scores are the same.
    assert stavis.evaluate(str(published), str(data), jobs=1).scores == evaluation.scores


def test_wrong_arguments_raise_value_error(
    data: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stavis

    for arguments, message in (
        ({"protocol": "mit"}, "protocol is 'mit'"),
        ({"quirks": "some"}, "quirks is 'some'"),
        ({"stride": 0}, "stride 0"),
        ({"baselines": ["middle"]}, "unknown baseline 'middle'"),
        ({"merge": True}, "needs an output folder"),
    ):
        with pytest.raises(ValueError, match=message):
            stavis.evaluate(published, data, **arguments)
    with pytest.raises(ValueError, match="nothing to score"):
        stavis.evaluate(None, data)
    evaluation = stavis.evaluate(published, data, stride=3, jobs=1)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(StavisError, match="pip install pandas"):
        evaluation.to_pandas()


# --- Protocols --------------------------------------------------------------------------------------------------------


def test_protocols_take_other_negatives(data: Path, published: Path, tmp_path: Path) -> None:
    results = {}
    for protocol in ("stavis", "cross-video", "tuebingen"):
        out = tmp_path / protocol
        evaluate(
            "--data", data, "-p", published, "-o", out, "--protocol", protocol, "-j", 1, "-q", "--no-report"
        )
        results[protocol] = scores_of(out)
    for metric in ("cc", "sim", "nss", "auc_judd"):
        assert len({scores[metric] for scores in results.values()}) == 1
    assert len({scores["auc_shuffled"] for scores in results.values()}) == 3

    # One frame by the plain function: all frames of the other video are its negatives.
    layout = Layout(data)
    one, other = videos_of(data)
    fixated = maps.read_fixation_map(layout.fixation_map("DIEM", one.video, 8))
    counts = sum(
        maps.read_fixation_map(layout.fixation_map("DIEM", other.video, t)).astype(int)
        for t in range(other.num_frames)
    )
    saliency = maps.resize(maps.postprocess(make_map(10, 8)), SIZE)
    for protocol in ("cross-video", "tuebingen"):
        expected = metrics.auc_shuffled(saliency, fixated, counts, protocol=protocol)
        actual = frame_scores(tmp_path / protocol)["DIEM", 1, one.video]["auc_shuffled"][0]
        assert actual == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12), st.sampled_from([2, 4]))
@settings(max_examples=60, deadline=None)
def test_sparse_negatives_are_the_dense_ones(seed: int, height: int, width: int, num_values: int) -> None:
    """Of fixation maps with zeros and ones, or with other numbers too."""
    rng = np.random.default_rng(seed)
    dense = [
        rng.integers(0, num_values, (height, width)) * (rng.random((height, width)) < 0.3) for _ in range(4)
    ]
    fixations = VideoFixations((height, width), [pixels_of(fixation_map) for fixation_map in dense])
    union = maps.union_of_fixations(dense)
    for fixation_map, pixels in zip(dense, fixations.frames, strict=True):
        reference = SameVideoNegatives(fixations, "reference").of_frame(pixels)
        expected = maps.other_fixations(union, fixation_map)
        np.testing.assert_array_equal(reference.positions, np.flatnonzero(expected))
        fixed = SameVideoNegatives(fixations, "fixed").of_frame(pixels)
        np.testing.assert_array_equal(fixed.positions, np.flatnonzero(union & ~(fixation_map > 0)))
    counts = fixations.counts()
    for size in ((height, width), (3 * height, 3 * width)):
        merged = merge_scaled([((height, width), counts), ((height, width), counts)], size)
        assert merged.counts.sum() == 2 * sum(fixation_map.sum() for fixation_map in dense)
        # Where it is enlarged threefold, a pixel's middle is the middle one of nine.
        whole = np.zeros(size)
        whole.reshape(-1)[merged.positions] = merged.counts
        factor = size[0] // height
        np.testing.assert_array_equal(whole[factor // 2 :: factor, factor // 2 :: factor], 2 * sum(dense))


def test_quirks_decide_about_fixation_values_above_1(data: Path, published: Path, tmp_path: Path) -> None:
    """Pixels above 1 are fixated, but under "reference" stay among the negatives."""
    root = tmp_path / "data"
    shutil.copytree(data, root)
    entry = videos_of(root)[0]
    path = Layout(root).fixation_map("DIEM", entry.video, 8)
    fixations = maps.read_fixation_map(path)
    maps.write_fixation_map(path, fixations.astype(np.uint8) * 3)
    frames = {}
    for quirks in ("reference", "fixed"):
        out = tmp_path / quirks
        evaluate("--data", root, "-p", published, "-o", out, "--quirks", quirks, "-j", 1, "-q", "--no-report")
        frames[quirks] = frame_scores(out)["DIEM", 1, entry.video]["auc_shuffled"]
    assert frames["reference"][0] != frames["fixed"][0]
    assert frames["reference"][1:] == frames["fixed"][1:]


def test_generated_data_get_no_published_scores(data: Path, published: Path, tmp_path: Path) -> None:
    import stavis

    root, output = tmp_path / "data", tmp_path / "out"
    shutil.copytree(data, root)
    settings = root / "truth" / "DIEM" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text("{}")
    printed = evaluate("--data", root, "-p", published, "-o", output, "--stride", 5, "-j", 1, "--no-report")
    assert "these predictions" in printed
    assert "STAViS, published" not in printed + (output / "scores.md").read_text()
    assert load(output / "scores.json")["published"] == {}
    board = stavis.make_leaderboard(output)
    assert "STAViS, as published" not in [entry.name for entry in board.databases["DIEM"]]


# --- Bad input --------------------------------------------------------------------------------------------------------


def refuse(*arguments: object) -> str:
    with pytest.raises(StavisError) as caught:
        evaluate(*arguments, "--jobs", 1, "--quiet", "--no-report")
    return str(caught.value)


def video_folder(published: Path, data: Path, split: int = 1) -> Path:
    return published / f"split{split}_results" / "diem" / videos_of(data)[0].video


def test_missing_and_surplus_maps_are_counted(data: Path, published: Path, tmp_path: Path) -> None:
    folder = video_folder(published, data)
    num_frames = videos_of(data)[0].num_frames
    (folder / "pred_sal_000010.png").unlink()
    for number in (num_frames + 1, num_frames + 2):
        Image.fromarray(make_map(0, 0)).save(folder / f"pred_sal_{number:06d}.png")
    printed = evaluate("--data", data, "-p", published, "-o", tmp_path / "out", "-j", 1, "--no-report")
    assert "1 frame without a map" in printed
    scores = load(tmp_path / "out" / "scores.json")["databases"]["DIEM"]
    assert (scores["num_missing_frames"], scores["num_maps_beyond"]) == (1, 2)
    frames = frame_scores(tmp_path / "out")["DIEM", 1, videos_of(data)[0].video]["frame"]
    assert frames == [9, *range(11, num_frames + 1)]


def test_a_stride_scores_the_same_frames_but_fewer(data: Path, published: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--predictions", published, "--baseline", "center", "--jobs", 1, "--quiet")
    evaluate(*options, "--output", tmp_path / "all")
    evaluate(*options, "--output", tmp_path / "some", "--stride", 3)
    for method in ("predictions", "center"):
        every, some = (frame_scores(tmp_path / name, method) for name in ("all", "some"))
        assert every.keys() == some.keys()
        for video, scores in some.items():
            for column, values in scores.items():
                assert values == every[video][column][::3], (video, column)
    assert load(tmp_path / "some" / "evaluation.json")["settings"]["stride"] == 3
    assert "every 3 frames" in (tmp_path / "some" / "report.html").read_text()
    with pytest.raises(StavisError, match="other settings"):
        evaluate(*options, "--output", tmp_path / "some")


def test_missing_videos(data: Path, published: Path, tmp_path: Path) -> None:
    shutil.rmtree(video_folder(published, data))
    arguments = ("--data", data, "--predictions", published, "--output", tmp_path / "out")
    message = refuse(*arguments)
    assert "no maps of 1 of 6 videos" in message
    assert "complete splits: 2, 3" in message
    printed = evaluate(*arguments, "--allow-missing", "--jobs", 1, "--no-report")
    assert "1 video without maps left out" in printed
    assert len(load(tmp_path / "out" / "scores.json")["missing_videos"]) == 1


def test_a_run_of_one_split(data: Path, published: Path, tmp_path: Path) -> None:
    for split in (1, 3):
        shutil.rmtree(published / f"split{split}_results")
    printed = evaluate("--data", data, "-p", published, "-o", tmp_path / "out", "-j", 1, "--no-report")
    assert "without split 1 and 3, not predicted" in printed
    scores = load(tmp_path / "out" / "scores.json")
    assert scores["absent_splits"] == [1, 3]
    assert scores["databases"]["DIEM"]["splits"].keys() == {"2"}
    message = refuse("--data", data, "-p", published, "-o", tmp_path / "other", "--split", "1")
    assert "no maps of any of the" in message


def test_predictions_of_another_data_set(data: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "run" / "split1_results" / "diem" / "elsewhere", 12)
    message = refuse("--data", data, "--predictions", tmp_path / "run", "--output", tmp_path / "out")
    assert "no maps of any" in message
    assert "elsewhere" in message
    assert not (tmp_path / "out").exists()


def test_maps_of_another_video_beyond_its_end(data: Path, published: Path, tmp_path: Path) -> None:
    """None of the frames can be scored: undefined, not 0 and not left out."""
    folder = video_folder(published, data)
    for path in folder.iterdir():
        path.rename(folder / f"pred_sal_{int(path.stem[-6:]) + 500:06d}.png")
    printed = evaluate("--data", data, "-p", published, "-o", tmp_path / "out", "-j", 1)
    assert "frames without a map" in printed
    scores = load(tmp_path / "out" / "scores.json")["databases"]["DIEM"]
    assert scores["cc"] is None
    assert scores["splits"]["2"]["cc"] is not None


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_unreadable_maps(damage: str, data: Path, published: Path, tmp_path: Path) -> None:
    path = video_folder(published, data) / "pred_sal_000011.png"
    path.write_bytes({"truncated": path.read_bytes()[:60], "text": b"not an image", "empty": b""}[damage])
    message = refuse("--data", data, "--predictions", published, "--output", tmp_path / "out")
    assert str(path) in message
    assert "unreadable" in message


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda p: p.write_bytes(b""), "not a MATLAB 5 file"),
        (lambda p: p.unlink(), "1 of 14 fixation maps missing (number 3)"),
        (lambda p: maps.write_fixation_map(p, np.zeros((10, 20), np.uint8)), "20x10 pixels"),
    ],
)
def test_bad_fixation_files(
    break_it: Callable[[Path], None], message: str, data: Path, published: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data, root)
    break_it(Layout(root).fixation_map("DIEM", videos_of(root)[0].video, 2))
    assert message in refuse("--data", root, "--predictions", published, "--output", tmp_path / "out")


def test_density_map_of_another_size(data: Path, published: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(data, root)
    path = Layout(root).density_map("DIEM", videos_of(root)[0].video, 9)
    Image.fromarray(np.zeros((36, 64), np.uint8)).save(path)
    assert "64x36 pixels" in refuse("--data", root, "--predictions", published, "--output", tmp_path / "out")


def test_bad_folders_of_maps(data: Path, tmp_path: Path) -> None:
    for number, (name, message) in enumerate(
        [("map.png", "does not end with a number"), ("0009.jpg", "maps of the same frame")]
    ):
        root = tmp_path / str(number)
        for entry in videos_of(data):
            write_images(root / entry.video, entry.num_frames, name="{:04d}.png")
            Image.fromarray(make_map(0, 0)).save(root / entry.video / name)
        arguments = ("--data", data, "-p", root, "--databases", "DIEM", "-o", tmp_path / f"out{number}")
        assert message in refuse(*arguments)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"maps": np.zeros((3, 4, 4))}, "lacks the arrays saliency and index"),
        ({"saliency": np.zeros((3, 4)), "index": np.arange(3)}, "(N, h, w)"),
        ({"saliency": np.zeros((3, 4, 4)), "index": np.arange(2)}, "a frame number from 0"),
        ({"saliency": np.zeros((2, 4, 4)), "index": np.array([9, 9])}, "contains a frame twice"),
        ({"saliency": np.full((1, 4, 4), np.nan), "index": np.array([9])}, "not finite"),
    ],
)
def test_bad_archives(arrays: dict[str, np.ndarray], message: str, data: Path, tmp_path: Path) -> None:
    for entry in videos_of(data):
        (tmp_path / "maps").mkdir(exist_ok=True)
        np.savez(tmp_path / "maps" / f"{entry.video}.npz", **arrays)
    arguments = ("--data", data, "--databases", "DIEM", "-p", tmp_path / "maps", "-o", tmp_path / "out")
    assert message in refuse(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--predictions", "nowhere"), "does not exist"),
        ((), "nothing to score"),
        (
            ("--baseline", "middle"),
            "unknown baseline 'middle'; allowed: center, uniform, train-mean, shuffled, inter-observer",
        ),
        (("--baseline", ","), "nothing to score"),
        (("--baseline", "center", "--split", "0"), "--split 0: a number from 1, or all, is allowed"),
        (("--baseline", "center", "--shard", "3/2"), "i/n is allowed"),
        (("--baseline", "center", "--databases", "SumMe"), "allowed: AVAD, DIEM"),
        (("--baseline", "center", "--first-frame", "12"), "has 11 frames"),
        (("--baseline", "inter-observer"), "observers.npz"),
        (("--baseline", "center", "--merge"), "run all shares first"),
    ],
)
def test_bad_settings(arguments: tuple[str, ...], message: str, data: Path, tmp_path: Path) -> None:
    assert message in refuse("--data", data, "--output", tmp_path / "out", *arguments)


# --- Resuming, shares -------------------------------------------------------------------------------------------------


def test_resuming_scores_new_and_changed_maps(data: Path, published: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = (
        "--data",
        data,
        "--predictions",
        published,
        "--output",
        out,
        "--jobs",
        1,
        "--quiet",
        "--no-report",
    )
    evaluate(*arguments)
    before = scores_of(out)
    files = sorted((out / "videos").rglob("*.json"))
    times = [path.stat().st_mtime_ns for path in files]
    files[0].unlink()
    evaluate(*arguments)
    assert [path.stat().st_mtime_ns for path in files][1:] == times[1:]
    assert scores_of(out) == before
    Image.fromarray(make_map(3, 3)).save(video_folder(published, data) / "pred_sal_000010.png")
    evaluate(*arguments)
    assert scores_of(out) != before
    assert "other settings" in refuse(*arguments[:6], "--protocol", "tuebingen")
    evaluate(*arguments, "--protocol", "tuebingen", "--overwrite")


def test_shares_merge_to_the_same(data: Path, published: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    arguments = ("--data", data, "--predictions", published, "--quiet", "--no-report")
    evaluate(*arguments, "--output", tmp_path / "whole", "--jobs", 2, "--format", "parquet")
    shared = (*arguments, "--output", tmp_path / "shared", "--jobs", 1)
    evaluate(*shared, "--shard", "1/2")
    assert "run all shares first" in refuse(*shared[:4], "--output", tmp_path / "shared", "--merge")
    assert not (tmp_path / "shared" / "scores.json").exists()
    evaluate(*shared, "--shard", "2/2")
    evaluate(*shared, "--merge")
    assert scores_of(tmp_path / "shared") == scores_of(tmp_path / "whole")
    frames = (tmp_path / "whole" / "frames.csv").read_text()
    assert frames == (tmp_path / "shared" / "frames.csv").read_text()
    parquet = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "whole" / "frames.parquet")
    assert parquet.num_rows == len(frames.splitlines()) - 1


# --- Baselines --------------------------------------------------------------------------------------------------------


def test_baselines(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = "center,uniform,train-mean,shuffled"
    evaluate(
        "--data", data, "--databases", "DIEM", "--baseline", names, "-o", out, "-j", 1, "-q", "--no-report"
    )
    record = load(out / "scores.json")
    assert record["databases"] == {}
    scores = {name: of_databases["DIEM"] for name, of_databases in record["baselines"].items()}
    assert list(scores) == names.split(",")
    for metric, chance in (("cc", 0), ("nss", 0), ("auc_shuffled", 0.5)):
        assert abs(scores["uniform"][metric] - chance) < 0.15

    # Each video predicted by the density maps of the other.
    layout, (one, other) = Layout(data), videos_of(data)
    shuffled = frame_scores(out, "shuffled")["DIEM", 1, one.video]
    saliency = maps.read_density_map(layout.density_map("DIEM", other.video, 12 % other.num_frames))
    density = maps.read_density_map(layout.density_map("DIEM", one.video, 12))
    saliency = maps.resize(maps.postprocess(saliency), density.shape)
    assert shuffled["cc"][12 - 8] == pytest.approx(metrics.cc(saliency, density), abs=1e-12)

    # The training mean from the training videos, not from those that it is scored on.
    means = []
    for entry in read_fold_list(Layout(data).fold_list("DIEM", "train", 1)):
        paths = [Layout(data).density_map("DIEM", entry.video, t) for t in range(entry.num_frames)]
        small = [np.maximum(maps.resize(maps.read_density_map(p), (112, 112)), 0) for p in paths]
        means.append(np.mean([density / density.sum() for density in small], axis=0))
    mean, videos = np.mean(means, axis=0), videos_of(data)
    expected = np.mean(
        [plain_scores(data, "DIEM", e.video, e.num_frames, lambda f: mean) for e in videos], axis=0
    )
    np.testing.assert_allclose([scores["train-mean"][m] for m in OCTAVE_NAMES], expected, rtol=1e-9)

    # The center prior has the mean and the variance of that map, along each axis.
    half = (np.arange(112) + 0.5) / 56 - 1
    factors = []
    for marginal in (mean.sum(axis=1), mean.sum(axis=0)):
        middle = np.average(half, weights=marginal)
        variance = np.average((half - middle) ** 2, weights=marginal)
        factors.append(np.exp(-((half - middle) ** 2) / (2 * variance)))
    center = np.outer(*factors)
    expected = np.mean(
        [plain_scores(data, "DIEM", e.video, e.num_frames, lambda f: center) for e in videos], axis=0
    )
    np.testing.assert_allclose([scores["center"][m] for m in OCTAVE_NAMES], expected, rtol=1e-9)


def test_baselines_follow_their_training_list(data: Path, tmp_path: Path) -> None:
    """Their scores are current only for the training videos to which they were fitted."""
    import stavis

    root = tmp_path / "data"
    shutil.copytree(data, root)
    options = {"databases": ["DIEM"], "baselines": ["train-mean", "center"], "jobs": 1, "report": False}

    def scores(output: Path) -> list[float]:
        run = stavis.evaluate(None, root, output, **options)
        return [run.means(name)["DIEM"]["cc"] for name in ("train-mean", "center")]

    before = scores(tmp_path / "out")
    path = Layout(root).fold_list("DIEM", "train", 1)
    path.write_text(path.read_text().splitlines()[0] + "\n")
    after = scores(tmp_path / "out")
    assert after == scores(tmp_path / "fresh")
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_a_single_baseline_is_a_name(data: Path) -> None:
    import stavis

    assert stavis.evaluate(None, data, databases=["DIEM"], baselines="center", jobs=1).methods == ["center"]


def test_all_splits_of_a_database_are_evaluated(tmp_path: Path) -> None:
    import stavis

    layout = write_data_set(tmp_path / "data", ["Own"], num_frames=[NUM_FRAMES[0]], audio=False)
    for subset in ("train", "test"):
        listed = layout.fold_list("Own", subset, 1).read_text()
        for split in (4, 5):
            layout.fold_list("Own", subset, split).write_text(listed)
    for split in range(1, 6):
        folder = tmp_path / "run" / f"split{split}_results" / "Own" / "test_0"
        write_images(folder, NUM_FRAMES[0], seed=split)
    evaluation = stavis.evaluate(tmp_path / "run", layout.root, jobs=1, references=False)
    assert [one.listed.split for one in evaluation.listed["predictions"]] == [1, 2, 3, 4, 5]
    out = tmp_path / "out"
    evaluate(
        "--data",
        layout.root,
        "-p",
        tmp_path / "run",
        "-o",
        out,
        "--split",
        4,
        "--no-references",
        "--no-report",
    )
    assert [one["split"] for one in load(out / "scores.json")["databases"]["Own"].get("lists", [])] in (
        [4],
        [],
    )


def test_center_prior_without_training_videos(data: Path, tmp_path: Path) -> None:
    """By its formula, for a picture that is wider than high."""
    shutil.copytree(data, tmp_path / "data")
    for path in (tmp_path / "data" / "fold_lists").glob("*train*"):
        path.unlink()
    arguments = (
        "--databases",
        "DIEM",
        "--baseline",
        "center",
        "-o",
        tmp_path / "out",
        "-j",
        1,
        "--no-report",
    )
    printed = evaluate("--data", tmp_path / "data", *arguments)
    assert "center prior: fixed Gaussian, there are no training videos" in printed
    half = (np.arange(112) + 0.5) / 56 - 1
    across, down = np.meshgrid(half, half * SIZE[0] / SIZE[1])
    center = np.exp(-(across**2) / (2 * 0.23) - down**2 / (2 * 0.23 * 0.45))
    expected = np.mean(
        [plain_scores(data, "DIEM", e.video, e.num_frames, lambda f: center) for e in videos_of(data)], axis=0
    )
    scores = load(tmp_path / "out" / "scores.json")["baselines"]["center"]["DIEM"]
    np.testing.assert_allclose([scores[m] for m in OCTAVE_NAMES], expected, rtol=1e-9)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with known observers: three who look at the same place, and in one frame a fourth elsewhere."""
    layout = write_data_set(tmp_path_factory.mktemp("watched"), ["DIEM"], num_frames=(12,), audio=False)
    rng = np.random.default_rng(0)
    for entry in videos_of(layout.root):
        rows = []
        for frame in range(entry.num_frames):
            spot = np.array([30 + 5 * frame, 20 + 3 * frame])
            rows += [(o, frame, *(spot + rng.uniform(-1, 1, 2))) for o in range(3)]
        rows.append((3, 10, 5.0, 65.0))
        observer, frames, x, y = map(np.array, zip(*rows, strict=True))
        for frame in range(entry.num_frames):
            fixations = np.zeros(SIZE, np.uint8)
            here = frames == frame
            fixations[y[here].astype(int), x[here].astype(int)] = 1
            maps.write_fixation_map(layout.fixation_map("DIEM", entry.video, frame), fixations)
        folder = layout.annotations_folder("DIEM", entry.video)
        np.savez(
            folder / "observers.npz",
            observer=observer,
            frame=frames,
            x=x,
            y=y,
            names=np.array(["a", "b", "c", "d"]),
            known=np.array(True),
        )
        record = {
            "video": entry.video,
            "num_frames": entry.num_frames,
            "frame_rate": entry.frame_rate,
            "inputs": {},
            "gaze": {"sigma_pixels": 5.0},
        }
        (folder / "prepare.json").write_text(json.dumps(record))
    return layout.root


def test_inter_observer(watched: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--data", watched, "--baseline", "inter-observer", "--output", out, "--jobs", 1, "--quiet")
    evaluate(*arguments, "--no-report")
    entry = videos_of(watched)[0]
    scores = frame_scores(out, "inter-observer")["DIEM", 1, entry.video]
    assert scores["frame"] == [9, 10, 11, 12]
    agreeing = [i for i, frame in enumerate(scores["frame"]) if frame != 11]
    odd = scores["frame"].index(11)
    # Beside predictions it needs no asking.
    write_images(tmp_path / "run" / entry.video, 12)
    options = (
        "--data",
        watched,
        "-p",
        tmp_path / "run",
        "-j",
        1,
        "-o",
        tmp_path / "beside",
        "--allow-missing",
    )
    assert "inter-observer" in evaluate(*options, "--no-report")
    beside = frame_scores(tmp_path / "beside", "inter-observer")["DIEM", 1, entry.video]
    assert beside["nss"] == scores["nss"]
    for i in agreeing:
        assert scores["cc"][i] > 0.9
        assert scores["nss"][i] > 4
        assert scores["auc_judd"][i] > 0.98
    assert scores["nss"][odd] < min(scores["nss"][i] for i in agreeing)

    # The frame of the fourth observer by hand: each against a map of the others.
    from stavis.gaze.observers import read_observers

    gaze = read_observers(Layout(watched).annotations_folder("DIEM", entry.video) / "observers.npz")
    here = np.flatnonzero(gaze.frame == 10)
    expected = []
    for left_out in here:
        others, own = np.zeros(SIZE), np.zeros(SIZE)
        for row in here:
            target = own if row == left_out else others
            target[int(gaze.y[row]), int(gaze.x[row])] += 1
        saliency = maps.postprocess(maps.density_from_fixations(others, 5.0))
        expected.append(metrics.nss(saliency, own))
    assert scores["nss"][odd] == pytest.approx(np.mean(expected), rel=1e-6)


def test_sigma_comes_from_the_observers_file(watched: Path, tmp_path: Path) -> None:
    """Files of older versions have none: then it comes from the record beside them."""
    from stavis.evaluation.baselines import read_video_gaze

    root = tmp_path / "data"
    shutil.copytree(watched, root)
    layout, video = Layout(root), videos_of(root)[0].video
    path = layout.annotations_folder("DIEM", video) / "observers.npz"
    assert read_video_gaze(layout, "DIEM", video).sigma_pixels == 5
    (path.parent / "prepare.json").unlink()
    with pytest.raises(StavisError, match="has no sigma_pixels"):
        read_video_gaze(layout, "DIEM", video)
    with np.load(path) as arrays:
        np.savez(path, **arrays, sigma_pixels=7.5)
    assert read_video_gaze(layout, "DIEM", video).sigma_pixels == 7.5


# --- Comparison -------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two evaluations, the second of better maps: the density maps themselves, somewhat blurred."""
    layout = Layout(data)
    for entry in videos_of(data):
        write_images(tmp_path / "weak" / entry.video, entry.num_frames)
        for frame in range(8, entry.num_frames):
            density = maps.read_density_map(layout.density_map("DIEM", entry.video, frame))
            path = tmp_path / "strong" / entry.video / f"{frame + 1:04d}.png"
            maps.write_map(path, maps.to_8bit(maps.blur(density, 3)))
    for name in ("weak", "strong"):
        arguments = ("--databases", "DIEM", "-o", tmp_path / f"{name}_scores", "-j", 1, "-q", "--no-report")
        evaluate("--data", data, "-p", tmp_path / name, *arguments)
    return tmp_path / "weak_scores", tmp_path / "strong_scores"


def test_compare(two: tuple[Path, Path], tmp_path: Path) -> None:
    weak, strong = two
    printed = evaluate("--compare", weak, strong, weak, "--output", tmp_path / "out")
    assert "strong_scores" in printed
    better, same = load(tmp_path / "out" / "comparison.json")["comparisons"]
    for metric in OCTAVE_NAMES:
        change = better["databases"]["DIEM"][metric]
        assert change["difference"] == pytest.approx(change["after"] - change["before"], abs=1e-12)
        assert change["interval"][0] <= change["difference"] <= change["interval"][1]
        assert same["databases"]["DIEM"][metric]["difference"] == 0
        assert same["databases"]["DIEM"][metric]["interval"] == [0, 0]
    assert better["databases"]["DIEM"]["cc"]["interval"][0] > 0
    for video in better["videos"]:
        assert video["cc"]["interval"][0] > 0
    assert (tmp_path / "out" / "comparison.csv").read_text().count("\n") == 1 + 2 * 2
    back = evaluate("--compare", strong, weak, "--output", tmp_path / "back")
    assert "-" in back
    reverse = load(tmp_path / "back" / "comparison.json")["comparisons"][0]["databases"]["DIEM"]
    for metric, change in better["databases"]["DIEM"].items():
        assert reverse[metric]["difference"] == pytest.approx(-change["difference"], abs=1e-12)


def test_compare_refuses(two: tuple[Path, Path], data: Path, published: Path, tmp_path: Path) -> None:
    weak, _ = two
    with pytest.raises(StavisError, match="two folders"):
        evaluate("--compare", weak)
    with pytest.raises(StavisError, match="no evaluation in it"):
        evaluate("--compare", weak, tmp_path)
    evaluate("--data", data, "-p", tmp_path / "weak", "--databases", "DIEM", "-o", tmp_path / "c", "-j", 1, "-q",
             "--no-report", "--protocol", "cross-video")  # fmt: skip
    with pytest.raises(StavisError, match="protocol"):
        evaluate("--compare", weak, tmp_path / "c")
    with pytest.raises(StavisError, match="only with --compare"):
        evaluate(weak)
    for split in (1, 2):
        options = ("-o", tmp_path / f"of{split}", "-j", 1, "-q", "--no-report", "--no-references")
        evaluate("--data", data, "-p", published, "--split", split, *options)
    with pytest.raises(StavisError, match="no video of the same split in common"):
        evaluate("--compare", tmp_path / "of1", tmp_path / "of2")


def test_latex_of_awkward_names() -> None:
    from stavis.evaluation.tables import escape_latex

    assert escape_latex(r"Coutrot_db1 & 50 % \ {#$~^}") == (
        r"Coutrot\_db1 \& 50 \% \textbackslash{} \{\#\$\textasciitilde{}\textasciicircum{}\}"
    )


def test_95_percent_intervals_cover_the_mean() -> None:
    """Of many videos of correlated frames, about 95 % of the intervals contain the true mean."""
    from stavis.evaluation.inference import interval_of_mean, interval_of_video

    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        noise = rng.normal(size=1100)
        frames = np.convolve(noise, np.ones(10) / 10, "valid") + 0.5  # neighbors share nine of ten terms
        low, high = interval_of_video(frames, 25)
        inside += low <= 0.5 <= high
    assert 85 <= inside <= 100
    inside = sum(
        low <= 0 <= high for low, high in (interval_of_mean(rng.normal(size=40)) for _ in range(200))
    )
    assert 175 <= inside <= 200
    assert all(map(math.isnan, interval_of_mean(np.array([1.0, np.nan]))))


# --- Our own maps -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_our_maps_score_as_the_recorded_ones(goldens: Path, recipe: Any, tmp_path: Path) -> None:
    """`stavis test` with quirks "reference" on the recorded data set, against the recorded predictions."""
    from model.test_model import recipe_model
    from stavis.model import ModelConfig
    from stavis.prediction.testrun import RunSettings, find_test_videos, run_test
    from stavis.weights.names import LoadedNetwork

    data = goldens / "dataset" / "data"
    for recorded_maps in sorted((goldens / "dataset" / "predictions").iterdir()):
        model = recipe_model(ModelConfig(modality=recorded_maps.name), recipe, 0).eval()
        out = tmp_path / recorded_maps.name
        videos = find_test_videos(data, 1, None)
        settings = RunSettings(quirks="reference")
        run_test(
            data,
            videos,
            out / "maps",
            lambda split, m=model: LoadedNetwork(m, "recipe", None),
            settings,
            quiet=True,
        )
        common = ("--data", data, "--split", 1, "--jobs", 1, "--quiet", "--no-report")
        evaluate(*common, "-p", out / "maps", "-o", out / "ours")
        evaluate(*common, "-p", recorded_maps, "-o", out / "theirs")
        ours, theirs = (
            load(out / "ours" / "scores.json")["databases"],
            load(out / "theirs" / "scores.json")["databases"],
        )
        for database in theirs:
            for metric in OCTAVE_NAMES:
                tolerance = 2e-3 if metric in ("cc", "sim", "nss") else 1e-2
                assert abs(ours[database][metric] - theirs[database][metric]) <= tolerance, (database, metric)
