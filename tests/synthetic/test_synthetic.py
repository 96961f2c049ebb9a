"""The generated world: the same seed gives the same bytes, sound and sight agree in time, the shares are as set."""

import dataclasses
import hashlib
import itertools
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stavis.cli import app
from stavis.clips import CLIP_LENGTH
from stavis.datasets.fold_lists import read_fold_list
from stavis.datasets.layout import DATABASES, Layout
from stavis.errors import StavisError
from stavis.gaze.observers import read_observers
from stavis.maps import read_density_map, read_fixation_map
from stavis.media import AudioReader, read_frames, read_wave
from stavis.metrics import nss
from stavis.synthetic import (
    DRIVES,
    PRESETS,
    ROUTES,
    Preset,
    Settings,
    Truth,
    make_preset,
    read_truth,
    render_clip,
    write_databases,
)
from stavis.synthetic.databases import truth_path
from stavis.synthetic.generator import ClipMaker
from stavis.synthetic.observers import Eyes
from stavis.synthetic.oracle import (
    SETTLED_SECONDS,
    drive_densities,
    fresh_observers,
    oracle_density,
    settled_frames,
)
from stavis.synthetic.performance import SOUND_OF_KIND, SOUNDS, draw_performance
from stavis.synthetic.randomness import generator
from stavis.synthetic.script import write_script
from stavis.synthetic.sound import SAMPLE_RATE, render_music, render_performance, render_soundtrack

SMALL = Settings(seconds=0.64, size=(64, 48), frame_rate=12.5, num_observers=5, seed=7)
NUM_FRAMES = 8

# --- Files --------------------------------------------------------------------------------------------------------


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic")
    write_databases(root, DATABASES, SMALL, num_videos=2, quiet=True)
    return root


def test_same_seed_gives_the_same_bytes_in_one_process_and_in_two(small: Path, tmp_path: Path) -> None:
    write_databases(tmp_path, DATABASES, SMALL, num_videos=2, jobs=2, quiet=True)
    first, second = digest(small), digest(tmp_path)
    assert len(first) > 6 * 2 * NUM_FRAMES * 3
    assert first == second


def test_other_seeds_databases_and_videos_differ(small: Path, tmp_path: Path) -> None:
    write_databases(tmp_path, ["DIEM"], dataclasses.replace(SMALL, seed=8), num_videos=2, quiet=True)
    folders = [(small, "DIEM", 0), (small, "DIEM", 1), (small, "SumMe", 0), (tmp_path, "DIEM", 0)]
    for relative in (
        "video_frames/{}/synth_{:04d}/img_00001.jpg",
        "video_audio/{0}/synth_{1:04d}/synth_{1:04d}.wav",
    ):
        contents = {
            (root / relative.format(database, video)).read_bytes() for root, database, video in folders
        }
        assert len(contents) == len(folders)


def test_layout_is_the_published_one(small: Path) -> None:
    layout = Layout(small)
    assert layout.databases() == list(DATABASES)
    for database in DATABASES:
        for split in (1, 2, 3):
            test = read_fold_list(layout.fold_list(database, "test", split))
            train = read_fold_list(layout.fold_list(database, "train", split))
            assert {e.video for e in test + train} == {"synth_0000", "synth_0001"}
            assert len(test) == len(train) == 1
        for entry in read_fold_list(layout.fold_list(database, "test", 1)):
            assert (entry.num_frames, entry.frame_rate) == (NUM_FRAMES, 12.5)
            names = sorted(path.name for path in layout.frames_folder(database, entry.video).iterdir())
            assert names == [f"img_{number:05d}.jpg" for number in range(1, NUM_FRAMES + 1)]
            with wave.open(str(layout.wave(database, entry.video))) as file:
                assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (22050, 1, 2)
                assert file.getnframes() == round(0.64 * 22050)
            for frame in range(NUM_FRAMES):
                with Image.open(layout.frame(database, entry.video, frame)) as image:
                    assert (image.size, image.mode, image.format) == ((64, 48), "RGB", "JPEG")
                density = read_density_map(layout.density_map(database, entry.video, frame))
                fixations = read_fixation_map(layout.fixation_map(database, entry.video, frame))
                assert density.shape == fixations.shape == (48, 64)
                assert set(np.unique(fixations)) <= {0, 1}
                assert fixations.any() == bool(density.max() > 250)


def test_maps_hold_the_observers_samples(small: Path) -> None:
    layout = Layout(small)
    observers = read_observers(layout.annotations_folder("AVAD", "synth_0001") / "observers.npz")
    truth = read_truth(truth_path(small, "AVAD", "synth_0001"))
    assert observers.names == ("S01", "S02", "S03", "S04", "S05")
    assert np.array_equal(observers.x, truth.gaze.x)
    pairs = observers.observer * NUM_FRAMES + observers.frame
    assert len(np.unique(pairs)) == len(pairs)  # one sample a frame and observer at most
    for frame in range(NUM_FRAMES):
        now = observers.frame == frame
        expected = {(int(y), int(x)) for x, y in zip(observers.x[now], observers.y[now], strict=True)}
        fixations = read_fixation_map(layout.fixation_map("AVAD", "synth_0001", frame))
        assert {(int(r), int(c)) for r, c in zip(*np.nonzero(fixations), strict=True)} == expected


def test_density_map_peaks_where_observers_agree(small: Path) -> None:
    layout = Layout(small)
    density = read_density_map(layout.density_map("DIEM", "synth_0000", 0)).astype(float)
    # In the first frame everybody looks at the middle, with errors of well under a pixel at this size.
    row, column = np.unravel_index(density.argmax(), density.shape)
    assert abs(row - 24) <= 1
    assert abs(column - 32) <= 1
    # sigma is width / 36; Gaussians of a standard deviation s fall to half at 1.18 s.
    half_width = np.flatnonzero(density[row] >= 127).size / 2
    assert half_width == pytest.approx(1.18 * 64 / 36, abs=1.0)


def test_evaluation_scores_the_observers_by_one_another(small: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(small), "--output", str(tmp_path), "--databases", "DIEM", "--jobs", "1"]
    options = ["--baseline", "inter-observer,uniform", "--first-frame", "2", "--stride", "3", "--no-report"]
    result = CliRunner().invoke(app, ["evaluate", *arguments, *options])
    assert result.exit_code == 0, result.output
    nss_of = {
        name: of_databases["DIEM"]["nss"]
        for name, of_databases in json.loads((tmp_path / "scores.json").read_text())["baselines"].items()
    }
    assert nss_of["inter-observer"] > nss_of["uniform"] + 0.5


def test_interrupted_work_goes_on_and_more_videos_can_be_added(small: Path, tmp_path: Path) -> None:
    assert write_databases(tmp_path, ["DIEM"], SMALL, num_videos=2, quiet=True) == 2
    lost = truth_path(tmp_path, "DIEM", "synth_0001").with_suffix(".json")
    lost.unlink()
    assert write_databases(tmp_path, ["DIEM"], SMALL, num_videos=3, quiet=True) == 2
    before, after = digest(small), digest(tmp_path)
    for name in after:
        if "synth_0000" in name or "synth_0001" in name:
            assert after[name] == before[name]
    assert [e.video for e in read_fold_list(Layout(tmp_path).fold_list("DIEM", "train", 1))] == [
        "synth_0001",
        "synth_0002",
    ]


def test_splits_test_lists_do_not_overlap(tmp_path: Path) -> None:
    write_databases(tmp_path, ["AVAD"], SMALL, num_videos=6, test_share=1 / 3, quiet=True)
    tests = [
        {e.video for e in read_fold_list(Layout(tmp_path).fold_list("AVAD", "test", split))}
        for split in (1, 2, 3)
    ]
    assert [len(test) for test in tests] == [2, 2, 2]
    assert len(set.union(*tests)) == 6


def test_truth_survives_its_files(small: Path, tmp_path: Path) -> None:
    truth = read_truth(truth_path(small, "DIEM", "synth_0000"))
    truth.save(tmp_path / "copy")
    for suffix in (".json", ".npz"):
        original = truth_path(small, "DIEM", "synth_0000").with_suffix(suffix)
        assert (tmp_path / f"copy{suffix}").read_bytes() == original.read_bytes()


def test_paths_may_be_texts_and_a_single_database_its_name(small: Path, tmp_path: Path) -> None:
    assert write_databases(str(tmp_path), "Own", SMALL, num_videos=2, quiet=True) == 2
    path = truth_path(tmp_path, "Own", "synth_0000")
    read_truth(str(path)).save(str(tmp_path / "copy"))
    assert (tmp_path / "copy.npz").read_bytes() == path.with_suffix(".npz").read_bytes()


def test_a_damaged_truth_is_named(small: Path, tmp_path: Path) -> None:
    read_truth(truth_path(small, "DIEM", "synth_0000")).save(tmp_path / "copy")
    arrays = tmp_path / "copy.npz"
    whole = arrays.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:60] + b"\xff" * 40 + whole[100:]):
        arrays.write_bytes(damaged)
        with pytest.raises(StavisError, match="copy: not the ground truth of a generated video"):
            read_truth(tmp_path / "copy")


# --- Errors and the command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "noise"], "preset 'noise' is unknown; allowed: mixed, sound-decides"),
        (["--size", "320"], "--size 320: must be a width and a height"),
        (["--size", "16x16"], "allowed: 32 to 4096 pixels"),
        (["--sound-share", "1.5"], "the sound's share is 1.5; allowed: 0 to 1"),
        (["--sound-share", "nan"], "the sound's share is nan"),
        (["--routes", "smell=1"], "route 'smell' is unknown; allowed: semantic"),
        (["--routes", "sight=-1"], "must be >= 0 and not all 0"),
        (["--routes", "sight=nan"], "must be >= 0 and not all 0"),
        (["--routes", "sight"], "--routes sight: not ROUTE=WEIGHT"),
        (["--videos", "1"], "1 video; allowed: 2 or more"),
        (["--seconds", "0"], "0.0 seconds; allowed: above 0"),
        (["--seconds", "nan"], "nan seconds; allowed: above 0"),
        (["--frame-rate", "0"], "0.0 frames per second"),
        (["--seed", "-1"], "seed -1; allowed: 0 or more"),
        (["--observers", "0"], "0 observers; allowed: 1 or more"),
        (["--test-share", "0.5"], "test share 0.5; allowed: above 0, to 1/3"),
        (["--database", "../up"], "database name '../up'; allowed: letters"),
    ],
)
def test_bad_settings_are_told_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["synth", str(tmp_path / "data"), *arguments])
    assert isinstance(result.exception, StavisError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "data").exists()


def test_no_processes_are_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["synth", str(tmp_path / "data"), "--jobs", "0"])
    assert result.exit_code == 2
    assert "Invalid value for" in result.output
    assert not (tmp_path / "data").exists()


def test_other_settings_are_refused_in_the_same_database(small: Path) -> None:
    with pytest.raises(StavisError, match="DIEM there was generated with seed 7, not 9"):
        write_databases(small, ["DIEM"], dataclasses.replace(SMALL, seed=9), num_videos=2, quiet=True)


def test_real_data_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "video_frames" / "DIEM" / "advert_iphone").mkdir(parents=True)
    with pytest.raises(StavisError, match="a database that was not generated is there"):
        write_databases(tmp_path, ["DIEM"], SMALL, num_videos=2, quiet=True)


def test_command_makes_a_database_with_other_shares(tmp_path: Path) -> None:
    arguments = [
        "--videos",
        "2",
        "--seconds",
        "1",
        "--size",
        "48x32",
        "--frame-rate",
        "10",
        "--observers",
        "3",
    ]
    arguments += [
        "--database",
        "ETMD_av,own",
        "--sound-share",
        "0.25",
        "--routes",
        "sight=1,none=3",
        "--jobs",
        "1",
    ]
    result = CliRunner().invoke(app, ["synth", str(tmp_path), *arguments])
    assert result.exit_code == 0, result.output
    assert "4 videos made, 0 existed, in ETMD_av, own" in result.output
    truth = read_truth(truth_path(tmp_path, "own", "synth_0001"))
    assert truth.drives["source"] == 0.25
    assert sum(truth.drives.values()) == pytest.approx(1)
    assert {shot["route"] for shot in truth.shots} <= {"sight", "none"}
    assert "4 existed" in CliRunner().invoke(app, ["synth", str(tmp_path), *arguments]).output


# --- What is designed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_shares_are_whole(name: str) -> None:
    preset = make_preset(name)
    assert set(preset.routes) == set(ROUTES)
    assert set(preset.drives) == set(DRIVES)
    assert sum(preset.routes.values()) == pytest.approx(1)
    assert sum(preset.drives.values()) == pytest.approx(1)


def test_scripts_routes_and_kinds_are_as_designed() -> None:
    preset = dataclasses.replace(PRESETS["mixed"], routes=dict.fromkeys(ROUTES, 0.25), num_candidates=(2, 4))
    shots = dict.fromkeys(ROUTES, 0)
    heard_slot = []
    for video in range(60):
        script = write_script(1, ("script", video), preset, 500, 25.0)
        assert script.shots[0].start_frame == 0
        assert script.shots[-1].stop_frame == 500
        for before, after in zip(script.shots, script.shots[1:], strict=False):
            assert before.stop_frame == after.start_frame
        for index, shot in enumerate(script.shots):
            shots[shot.route] += 1
            cast = [role for role in script.roles if role.shot == index and role.candidate]
            kinds = [role.kind for role in cast]
            start, stop = shot.start_frame / 25, shot.stop_frame / 25
            turns = [turn for turn in script.turns if start <= turn.start_seconds < stop]
            if shot.route == "semantic":
                assert len(set(kinds)) == len(kinds)  # the sound's kind tells which one
            if shot.route == "synchrony":
                assert len(set(kinds)) == 1  # it does not
            if shot.route == "none":
                assert all(turn.actor == -1 for turn in turns)
                assert not {turn.sound for turn in turns} & {SOUND_OF_KIND[kind] for kind in kinds}
            else:
                assert turns
                for turn in turns:
                    assert turn.sound == SOUND_OF_KIND[script.roles[turn.actor].kind]
                    heard_slot.append(turn.actor - cast[0].actor)
            if shot.route in ("semantic", "synchrony", "none"):  # all at work, heard or not
                assert all(role.performance is not None and len(role.performance.onsets) for role in cast)
            for turn in turns:
                if turn.actor >= 0 and turn.performance is not None:
                    seen = script.roles[turn.actor].performance
                    assert seen is not None
                    assert set(turn.performance.onsets) <= set(seen.onsets)
                    assert (turn.performance.onsets >= turn.start_seconds).all()
                    ends = turn.performance.onsets + turn.performance.durations
                    assert (ends <= turn.stop_seconds + 1e-9).all()
    total = sum(shots.values())
    for route, count in shots.items():  # within four standard deviations of the designed quarter
        assert abs(count / total - 0.25) < 4 * np.sqrt(0.25 * 0.75 / total), route
    assert min(np.bincount(heard_slot)[:2]) > 0.3 * len(heard_slot)  # neither of the first two is preferred


def test_how_objects_move_does_not_tell_which_one_is_heard() -> None:
    """Where sight is not to tell, the heard object acts as the others do, and is as often any of them."""
    differences, places = [], []
    for video in range(80):
        script = write_script(4, ("sight", video), PRESETS["sound-decides"], 250, 25.0)
        for turn in script.turns:
            shot = script.roles[turn.actor].shot
            cast = [role for role in script.roles if role.shot == shot and role.candidate]
            times = np.linspace(turn.start_seconds, turn.stop_seconds, 40, endpoint=False)
            activity = [
                role.performance.envelope(times).mean() for role in cast if role.performance is not None
            ]
            heard = turn.actor - cast[0].actor
            differences.append(activity[heard] - np.mean(activity))
            places.append((heard + 0.5) / len(cast))
    assert len(differences) > 200
    assert abs(np.mean(differences)) < 4 * np.std(differences) / np.sqrt(len(differences))
    assert abs(np.mean(places) - 0.5) < 4 * np.std(places) / np.sqrt(len(places))


def test_unrelated_world_never_shows_what_it_sounds() -> None:
    for video in range(20):
        script = write_script(2, ("unrelated", video), PRESETS["unrelated"], 300, 25.0)
        assert all(turn.actor == -1 for turn in script.turns)
        assert all(shot.route == "none" for shot in script.shots)


# --- Sound --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sound", SOUNDS)
def test_sounds_follow_their_envelope_and_stay_in_range(sound: str) -> None:
    correlations = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        performance = draw_performance(rng, sound, 0.2, 5.8)
        assert (np.diff(performance.onsets) > 0.1).all()
        samples = render_performance(rng, performance, 6 * SAMPLE_RATE)
        assert np.isfinite(samples).all()
        assert 0.3 < np.abs(samples).max() < 3
        windows = samples[: 6 * SAMPLE_RATE // 441 * 441].reshape(-1, 441)  # 20 ms
        loudness = np.sqrt((windows**2).mean(axis=1))
        middles = (np.arange(len(windows)) + 0.5) * 441 / SAMPLE_RATE
        envelope = performance.envelope(middles)
        assert loudness[envelope == 0].max(initial=0) < 0.5  # only windows that an event begins or ends in
        correlations.append(np.corrcoef(loudness, envelope)[0, 1])
    assert np.mean(correlations) > 0.75


def test_kinds_of_sound_differ_in_their_spectra() -> None:
    """A listener with a spectrum and its change over time can tell them apart: nearest class mean, leave one out."""
    features, labels = [], []
    for label, sound in enumerate(SOUNDS):
        for seed in range(12):
            rng = np.random.default_rng(100 + seed)
            samples = render_performance(rng, draw_performance(rng, sound, 0, 4), 4 * SAMPLE_RATE)
            frames = np.abs(
                np.fft.rfft(samples[: len(samples) // 512 * 512].reshape(-1, 512) * np.hanning(512))
            )
            power = frames[:, 1:].reshape(len(frames), 16, 16).sum(axis=2) + 1e-3
            loud = power[power.sum(axis=1) > 0.1 * power.sum(axis=1).max()]
            flat = np.exp(np.log(frames[:, 1:] + 1e-6).mean(axis=1)) / (frames[:, 1:].mean(axis=1) + 1e-6)
            rise = np.diff(np.log(power.sum(axis=1)))
            share = (loud / loud.sum(axis=1, keepdims=True)).mean(axis=0)
            features.append(
                np.concatenate([np.log(share), [3 * flat.max(), 3 * flat.std() * 4, rise.max(), rise.min()]])
            )
            labels.append(label)
    data, truth = np.array(features), np.array(labels)
    data = (data - data.mean(axis=0)) / data.std(axis=0)
    hits = 0
    for left_out in range(len(data)):
        others = np.arange(len(data)) != left_out
        means = np.array([data[others & (truth == label)].mean(axis=0) for label in range(4)])
        hits += int(np.argmin(((means - data[left_out]) ** 2).sum(axis=1)) == truth[left_out])
    assert hits / len(data) > 0.7  # chance is 1/4


def test_music_has_a_beat_of_its_own_and_silence_is_silent() -> None:
    music = render_music(np.random.default_rng(0), 4 * SAMPLE_RATE)
    assert np.abs(music).max() == pytest.approx(1)
    quiet = dataclasses.replace(PRESETS["unrelated"], bed_share=0.0)
    levels = []
    for video in range(20):
        script = write_script(3, ("quiet", video), quiet, 100, 25.0)
        samples = render_soundtrack(script, 3, ("quiet", video))
        assert len(samples) == 4 * SAMPLE_RATE
        assert np.abs(samples).max() < 1
        assert (samples.any()) == bool(script.turns)
        levels.append(float(np.abs(samples).max()))
    assert min(levels) == 0
    assert max(levels) > 4 * sorted(levels)[len(levels) // 2 - 4] or max(levels) > 0.3  # loudness varies


# --- Sound and sight in time --------------------------------------------------------------------------------------

SOLO = dataclasses.replace(
    PRESETS["sight-decides"],
    routes={"semantic": 0.0, "synchrony": 0.0, "sight": 1.0, "none": 0.0},
    num_candidates=(1, 1),
    num_movers=(0, 0),
    camera_motion=0.0,
    bed_share=0.0,
    shot_seconds=(30.0, 40.0),
    turn_seconds=(20.0, 30.0),
)


def _high_passed(signal: np.ndarray, width: int) -> np.ndarray:
    """Without what is slower than `width` samples, at unit variance."""
    kernel = np.ones(width) / width
    counts = np.convolve(np.ones(len(signal)), kernel, "same")
    rest = signal - np.convolve(signal, kernel, "same") / counts
    return rest / (rest.std() + 1e-12)


def _lag_frames(seen: list[np.ndarray], heard: list[np.ndarray]) -> tuple[float, float]:
    """By how many frames sight follows sound, from the peak of the mean cross-correlation; and the peak's height."""
    lags = np.arange(-6, 7)
    total = np.zeros(len(lags))
    for one, other in zip(seen, heard, strict=True):
        a, b = _high_passed(one, 13), _high_passed(other, 13)
        for index, lag in enumerate(lags):
            first, second = (a[lag:], b[: len(b) - lag]) if lag >= 0 else (a[:lag], b[-lag:])
            total[index] += (first * second).mean()
    total /= len(seen)
    peak = int(np.argmax(total))
    assert 0 < peak < len(lags) - 1
    left, center, right = total[peak - 1 : peak + 2]
    return float(lags[peak] + 0.5 * (left - right) / (left - 2 * center + right)), float(center)


def _mouth_opening(images: list[np.ndarray], truth: Truth) -> np.ndarray:
    """How unlike a closed mouth the lower middle of the face looks, per frame: mean absolute difference of pixels."""
    left, top, right, bottom = np.nanmean(truth.boxes[:, 0], axis=0)
    center_x, center_y = (left + right) / 2, (top + bottom) / 2
    rows = slice(int(center_y + 0.12 * (bottom - top)), int(center_y + 0.48 * (bottom - top)))
    columns = slice(int(center_x - 0.25 * (right - left)), int(center_x + 0.25 * (right - left)))
    patches = np.array([image[rows, columns] for image in images], dtype=float)
    closed = np.median(patches[truth.activity[:, 0] == 0], axis=0)
    return np.abs(patches - closed).mean(axis=(1, 2, 3))


def _loudness(samples: np.ndarray, num_frames: int, frame_rate: float, sample_rate: int) -> np.ndarray:
    """Root mean square half a frame to either side of each frame's time."""
    edges = ((np.arange(num_frames + 1) - 0.5) / frame_rate * sample_rate).clip(0, len(samples)).astype(int)
    return np.array([np.sqrt(np.mean(samples[a:b] ** 2)) for a, b in itertools.pairwise(edges)])


def test_mouths_open_with_the_voice_in_the_video_file(tmp_path: Path) -> None:
    """Frames and sound of the finished, encoded file agree to under half a frame."""
    preset = dataclasses.replace(SOLO, person_share=1.0)
    seen, heard = [], []
    for seed in range(3):
        path = tmp_path / f"{seed}.mp4"
        truth = render_clip(path, seed=seed, preset=preset, seconds=4, size=(128, 96), num_observers=1)
        images = [frame.image for frame in read_frames(path)]
        assert len(images) == truth.num_frames == 100
        with AudioReader(path) as reader:
            samples = reader.read(0, 4 * reader.sample_rate)
        seen.append(_mouth_opening(images, truth))
        heard.append(_loudness(samples, 100, 25.0, 22050))
    lag, height = _lag_frames(seen, heard)
    assert height > 0.5
    assert abs(lag) < 0.5


def test_frames_and_waves_of_the_published_layout_are_the_clip(tmp_path: Path) -> None:
    settings = Settings(seconds=1, size=(96, 72), num_observers=1, seed=5)
    write_databases(tmp_path, ["DIEM"], settings, num_videos=2, quiet=True)
    maker = ClipMaker(settings, ("database", "DIEM", 1))
    images = np.array(list(maker.frames()), dtype=float)
    layout = Layout(tmp_path)
    for frame in range(25):
        stored = np.asarray(Image.open(layout.frame("DIEM", "synth_0001", frame)), dtype=float)
        assert np.abs(images - stored).mean(axis=(1, 2, 3)).argmin() == frame
    samples, rate = read_wave(layout.wave("DIEM", "synth_0001"))
    assert rate == SAMPLE_RATE
    assert np.abs(samples - maker.samples).max() <= 1 / 32768
    truth = read_truth(truth_path(tmp_path, "DIEM", "synth_0001"))
    assert truth.loudness == pytest.approx(_loudness(samples, 25, 25.0, rate), abs=1e-3)


@pytest.mark.parametrize("kind", ["striker", "player", "machine"])
def test_objects_move_with_their_sound(kind: str) -> None:
    """Pixels change around the object when its sound begins, and at no other time as much."""
    preset = dataclasses.replace(SOLO, person_share=0.0)
    ratios = []
    for seed in range(60):
        maker = ClipMaker(Settings(preset, seconds=3, size=(64, 48), num_observers=1, seed=seed), ("motion",))
        if maker.script.roles[0].kind != kind:
            continue
        images = np.array(list(maker.frames()), dtype=float)
        truth = maker.truth()
        left, top, right, bottom = (int(v) for v in truth.boxes[0, 0])
        patch = images[:, max(top, 0) : bottom, max(left, 0) : right]
        change = np.abs(np.diff(patch, axis=0)).mean(axis=(1, 2, 3))
        loud = truth.activity[1:, 0] > 0.3
        still = np.array([not truth.activity[max(0, f - 6) : f + 6, 0].any() for f in range(1, 75)])
        if loud.any() and still.any():
            ratios.append(change[loud].mean() / change[still].mean())
        if len(ratios) == 4:
            break
    assert len(ratios) >= 2
    assert np.median(ratios) > 1.5


def test_truth_says_where_things_are() -> None:
    """The pixels in an actor's box are its own: they change when it is taken away."""
    settings = Settings(SOLO, seconds=2, size=(160, 120), num_observers=1, seed=3)
    maker = ClipMaker(settings, ("place",))
    images = list(maker.frames())
    truth = maker.truth()
    without = ClipMaker(settings, ("place",))
    without.script = dataclasses.replace(without.script, roles=())
    empty = list(without.frames())
    for frame in (0, 25, 49):
        difference = np.abs(images[frame].astype(int) - empty[frame].astype(int)).sum(axis=2)
        x, y, sigma = truth.targets[frame, 0]
        left, top, right, bottom = truth.boxes[frame, 0]
        assert left < x < right
        assert top < y < bottom
        assert 0 < sigma < right - left
        window = difference[
            int(y - sigma / 2) : int(y + sigma / 2) + 1, int(x - sigma / 2) : int(x + sigma / 2) + 1
        ]
        assert (window > 10).mean() > 0.9


# --- Observers ----------------------------------------------------------------------------------------------------


def make_truths(preset: Preset, num: int, seed: int = 1, num_observers: int = 30) -> list[Truth]:
    """Videos at the size of a stamp: gaze does not depend on the size."""
    truths = []
    for video in range(num):
        settings = Settings(
            preset, seconds=10, size=(64, 48), frame_rate=12.5, num_observers=num_observers, seed=seed
        )
        maker = ClipMaker(settings, ("gaze", video))
        for _ in maker.frames():
            pass
        truths.append(maker.truth())
    return truths


@pytest.fixture(scope="module")
def decided_by_sound() -> list[Truth]:
    return make_truths(PRESETS["sound-decides"], 6)


@pytest.fixture(scope="module")
def densities(decided_by_sound: list[Truth]) -> list[dict[int, np.ndarray]]:
    """The drives' densities, at some of the frames when eyes have answered the sound."""
    return [
        {frame: drive_densities(truth, frame) for frame in settled_frames(truth)[::5]}
        for truth in decided_by_sound
    ]


def z_scores(density: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    scores = (density - density.mean()) / density.std()
    return np.asarray(scores[np.floor(y).astype(int), np.floor(x).astype(int)])


def fitted_shares(truths: list[Truth], densities: list[dict[int, np.ndarray]], eyes: Eyes) -> np.ndarray:
    """The mixture of drives under which the samples are likeliest, by expectation maximization."""
    likelihoods = []
    for truth, at_frames in zip(truths, densities, strict=True):
        gaze = fresh_observers(truth, 60, eyes=eyes)
        for frame, density in at_frames.items():
            now = gaze.frame == frame
            rows, columns = np.floor(gaze.y[now]).astype(int), np.floor(gaze.x[now]).astype(int)
            likelihoods.append(density[:, rows, columns].T)
    table = np.concatenate(likelihoods)
    shares = np.full(len(DRIVES), 1 / len(DRIVES))
    for _ in range(300):
        weighted = table * shares
        shares = (weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_designed_shares_are_recovered_from_samples(
    decided_by_sound: list[Truth], densities: list[dict[int, np.ndarray]], share: float
) -> None:
    drives = dict(make_preset("sound-decides", sound_share=share).drives)
    truths = [dataclasses.replace(truth, drives=drives) for truth in decided_by_sound]
    designed = np.array([drives[name] for name in DRIVES])
    # 360 observers, each with shares of its own, make a standard error of about 0.01.
    found = fitted_shares(truths, densities, Eyes(inhibition_strength=0.0))
    assert found[DRIVES.index("source")] == pytest.approx(share, abs=0.03)
    assert found == pytest.approx(designed, abs=0.05)
    # Inhibition of return spreads fixations on one object, some of which then look like another drive's.
    assert fitted_shares(truths, densities, Eyes())[DRIVES.index("source")] == pytest.approx(share, abs=0.06)


def test_oracle_gains_from_sound_what_was_designed(
    decided_by_sound: list[Truth], densities: list[dict[int, np.ndarray]]
) -> None:
    measured, designed = [], []
    for truth, at_frames in zip(decided_by_sound, densities, strict=True):
        gaze = fresh_observers(truth, 60, eyes=Eyes(inhibition_strength=0.0))
        for frame in at_frames:
            now = gaze.frame == frame
            hearing, deaf = (oracle_density(truth, frame, hears=hears) for hears in (True, False))
            gains = [z_scores(d, gaze.x[now], gaze.y[now]).mean() for d in (hearing, deaf)]
            measured.append(gains[0] - gains[1])
            standard = [(d - d.mean()) / d.std() for d in (hearing, deaf)]
            designed.append((hearing * (standard[0] - standard[1])).sum())
    assert np.mean(designed) > 0.8
    assert np.mean(measured) == pytest.approx(np.mean(designed), rel=0.07)


@pytest.mark.parametrize("name", ["sight-decides", "unrelated"])
def test_oracle_gains_nothing_where_sound_tells_nothing_more(name: str) -> None:
    for truth in make_truths(PRESETS[name], 1, num_observers=1):
        for frame in range(0, truth.num_frames, 10):
            assert truth.only_sound_share(frame) == 0
            hearing, deaf = (oracle_density(truth, frame, hears=hears) for hears in (True, False))
            assert np.array_equal(hearing, deaf)


def test_other_observers_are_the_ceiling(decided_by_sound: list[Truth]) -> None:
    """Many other observers predict best, then who knows the sounding object, then who does not, then the center."""
    scores = {"observers": [], "hearing": [], "deaf": [], "center": []}
    for truth in decided_by_sound[:4]:
        others = fresh_observers(truth, 200, seed=1)
        for frame in range(4, truth.num_frames, 6):
            now = truth.gaze.frame == frame
            among = others.frame == frame
            counts = np.zeros((48, 64))
            np.add.at(counts, (others.y[among].astype(int), others.x[among].astype(int)), 1)
            spread = np.exp(-0.5 * (np.subtract.outer(np.arange(64), np.arange(64)) / 1.2) ** 2)
            maps = {
                "observers": spread[:48, :48] @ counts @ spread,
                "hearing": oracle_density(truth, frame, hears=True),
                "deaf": oracle_density(truth, frame, hears=False),
                "center": drive_densities(truth, frame)[DRIVES.index("center")],
            }
            for name, density in maps.items():
                scores[name].append(z_scores(density, truth.gaze.x[now], truth.gaze.y[now]).mean())
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    assert means["observers"] > means["hearing"] > means["deaf"] + 0.5
    assert means["deaf"] > means["center"] + 0.5
    # The project's own metric on the fixation maps says the same.
    truth = decided_by_sound[0]
    fixations = truth.gaze.fixation_maps(truth.num_frames, (64, 48))
    frames = settled_frames(truth)[::3]
    by_metric = [
        np.mean([nss(oracle_density(truth, frame, hears=hears), fixations[frame]) for frame in frames])
        for hears in (True, False)
    ]
    assert by_metric[0] > by_metric[1]


def test_more_sound_share_more_gaze_on_the_source(decided_by_sound: list[Truth]) -> None:
    on_source = []
    for share in (0.1, 0.5, 0.9):
        hits, total = 0, 0
        for truth in decided_by_sound[:3]:
            drives = dict(make_preset("sound-decides", sound_share=share).drives)
            gaze = fresh_observers(dataclasses.replace(truth, drives=drives), 30)
            for frame in settled_frames(truth):
                now = gaze.frame == frame
                left, top, right, bottom = truth.boxes[frame, truth.sounding[frame]]
                x, y = gaze.x[now], gaze.y[now]
                hits += int(((x > left) & (x < right) & (y > top) & (y < bottom)).sum())
                total += len(x)
        on_source.append(hits / total)
    assert on_source[0] + 0.2 < on_source[1] < on_source[2] - 0.15


def test_eyes_move_as_eyes_do() -> None:
    """Durations, latencies and inhibition lie where they are set."""
    truths = make_truths(
        dataclasses.replace(PRESETS["sound-decides"], shot_seconds=(10.0, 12.0)), 2, num_observers=1
    )
    durations, answers = [], []
    returns = {}
    for strength in (0.0, 0.9):
        close = total = 0
        for truth in truths:
            # 100 frames a second, so that durations are not rounded to the video's frames.
            fine = slow_motion(truth, 8)
            gaze = fresh_observers(fine, 40, eyes=Eyes(inhibition_strength=strength, blinks_per_second=1e-6))
            for observer in range(40):
                mine = gaze.observer == observer
                numbers, first = np.unique(gaze.fixation[mine], return_index=True)
                counts = np.diff([*first, mine.sum()])
                x, y = gaze.x[mine][first], gaze.y[mine][first]
                if strength == 0:
                    durations += (counts[1:-1] / fine.frame_rate).tolist()
                gaze_end_x = gaze.x[mine][first + counts - 1]
                gaze_end_y = gaze.y[mine][first + counts - 1]
                step = np.hypot(x[1:] - gaze_end_x[:-1], y[1:] - gaze_end_y[:-1]) / fine.width
                close += int((step < 0.04).sum())
                total += len(step)
                assert (np.diff(numbers) >= 1).all()
            if strength == 0:
                answers += response_times(fine, gaze)
        returns[strength] = close / total
    # Log-normal of median 0.3 s, cut short now and then by sounds and cuts.
    assert 0.24 < np.median(durations) < 0.32
    assert 0.26 < np.mean(durations) < 0.36
    assert 0.3 < np.std(np.log(durations)) < 0.5
    assert np.quantile(durations, 0.01) > 0.06
    # From a new sound to the eye's landing on its source: one latency and a saccade at the least.
    assert np.quantile(answers, 0.05) > 0.15
    assert 0.2 < np.median(answers) < 0.6
    assert returns[0.9] < 0.75 * returns[0.0]


def slow_motion(truth: Truth, factor: int) -> Truth:
    """The same video at `factor` times the frame rate, each frame repeated."""
    repeated = {
        name: np.repeat(getattr(truth, name), factor, axis=0)
        for name in (
            "shot_index",
            "sounding",
            "targets",
            "boxes",
            "activity",
            "appeal",
            "contrast_map",
            "loudness",
        )
    }
    return dataclasses.replace(
        truth, frame_rate=truth.frame_rate * factor, num_frames=truth.num_frames * factor, **repeated
    )


def response_times(truth: Truth, gaze) -> list[float]:
    """Seconds from each change to a new source on the screen to each observer's first fixation drawn by it."""
    times = []
    changes = [f for f in np.flatnonzero(np.diff(truth.sounding)) + 1 if truth.sounding[f] >= 0]
    for change in changes:
        end = change + int(SETTLED_SECONDS * truth.frame_rate)
        if change < truth.frame_rate or (truth.sounding[change:end] != truth.sounding[change]).any():
            continue
        x, y, sigma = truth.targets[change, truth.sounding[change]]
        for observer in range(gaze.observer.max() + 1):
            mine = (gaze.observer == observer) & (gaze.frame >= change) & (gaze.frame < end)
            before = (gaze.observer == observer) & (gaze.frame == change)
            near = np.hypot(gaze.x - x, gaze.y - y) < 3 * sigma
            if (before & near).any():
                continue  # it looked there already
            landed = gaze.frame[mine & near & (gaze.drive == DRIVES.index("source"))]
            if len(landed):
                times.append((landed[0] - change) / truth.frame_rate)
    return times


def test_observers_differ_and_agree_on_average(decided_by_sound: list[Truth]) -> None:
    truth = decided_by_sound[0]
    gaze = fresh_observers(truth, 150)
    frames = set(settled_frames(truth))
    settled = np.isin(gaze.frame, list(frames)) & (gaze.drive >= 0)
    own = [
        (gaze.drive[settled & (gaze.observer == observer)] == DRIVES.index("source")).mean()
        for observer in range(150)
    ]
    assert np.mean(own) == pytest.approx(truth.drives["source"], abs=0.05)
    assert np.std(own) > 0.05
    assert (gaze.x >= 0).all()
    assert (gaze.x < truth.width).all()
    assert (gaze.y >= 0).all()
    assert (gaze.y < truth.height).all()


def test_random_streams_are_independent_of_one_another() -> None:
    draws = {
        generator(*key).integers(2**63)
        for key in [(0, "a"), (0, "b"), (1, "a"), (0, "a", 0), (0, "a", 1), (0, 0, "a"), (0,)]
    }
    assert len(draws) == 7
    assert generator(5, "x", 2).integers(2**63) == generator(5, "x", 2).integers(2**63)


def test_clip_is_long_enough_for_the_network() -> None:
    assert round(Settings().seconds * Settings().frame_rate) > 4 * CLIP_LENGTH
