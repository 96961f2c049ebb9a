"""EyeLink ASC, Tobii, Pupil Labs and BIDS files, made by hand to the documentation of their formats."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from stavis.errors import StavisError
from stavis.gaze import GazeOptions, detect_format, holds_several_videos
from support.gaze import read, read_or_refuse


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding, newline="")
    return path


def dropped(gaze: object) -> dict[str, int]:
    return {reason: num for reason, num in gaze.dropped.items() if num}  # type: ignore[attr-defined]


# EyeLink

HEAD = """\
** CONVERTED FROM C:\\data\\s1.edf using edfapi 4.2.1
** TYPE: EDF_FILE BINARY EVENT SAMPLE TAGGED
** VERSION: EYELINK II 1
**

"""
BOTH_EYES = (
    HEAD
    + """\
MSG	990 DISPLAY_COORDS 0 0 127 95
MSG	995 TRIALID 1 other.avi
START	1000 	LEFT	RIGHT	SAMPLES	EVENTS
PRESCALER	1
EVENTS	GAZE	LEFT	RIGHT	RATE	 500.00	TRACKING	CR	FILTER	2	INPUT
SAMPLES	GAZE	LEFT	RIGHT	RATE	 500.00	TRACKING	CR	FILTER	2	INPUT
1000	  90.0	  90.0	 900.0	  90.0	  90.0	 880.0	  127.0	.....
END	1002 	SAMPLES	EVENTS	RES	  38.54	  31.12
MSG	1995 TRIALID 2 clip.avi
START	2000 	LEFT	RIGHT	SAMPLES	EVENTS
SAMPLES	GAZE	LEFT	RIGHT	RATE	 500.00	TRACKING	CR	FILTER	2	INPUT
INPUT	2000	127
MSG	2006 4 SYNCTIME
SFIX L   2002
SFIX R   2002
2002	  20.0	  20.0	 900.0	  24.0	  24.0	 880.0	  127.0	.....
2004	  22.0	  20.0	 900.0	  26.0	  24.0	 880.0	  127.0	.....
EFIX L   2002	2004	4	   21.0	   20.0	    900
EFIX R   2002	2004	4	   25.0	   24.0	    880
SSACC L  2006
SSACC R  2006
2006	  40.0	  30.0	 900.0	  42.0	  32.0	 880.0	  127.0	.....
SBLINK L 2008
SBLINK R 2008
2008	   .	   .	    0.0	   .	   .	    0.0	  127.0	.....
EBLINK L 2008	2008	2
EBLINK R 2008	2008	2
ESACC L  2006	2010	6	   40.0	   30.0	   60.0	   40.0	  5.00	    200
ESACC R  2006	2010	6	   40.0	   30.0	   60.0	   40.0	  5.00	    200
SFIX L   2012
2012	  60.0	  40.0	 900.0	   .	   .	    0.0	  127.0	.....
EFIX L   2012	2012	2	   60.0	   40.0	    900
END	2014 	SAMPLES	EVENTS	RES	  38.54	  31.12
"""
)


def test_eyelink_with_both_eyes_and_two_recordings(tmp_path: Path) -> None:
    path = write(tmp_path / "s1.asc", BOTH_EYES)
    assert detect_format(path) == "eyelink"
    gaze = read(path)
    assert gaze.observers == ("s1",)
    # The screen of 128x96 shows the video at half its size. SYNCTIME was 4 ms before its message, at 2002.
    assert gaze.x.tolist() == [11, 12, 30]
    assert gaze.y.tolist() == [11, 11, 20]
    assert gaze.time_seconds == pytest.approx([0, 0.002, 0.010])
    assert dropped(gaze) == {"saccade": 1, "blink": 1}
    assert read(path, eye="left").x.tolist() == [10, 11, 30]
    assert read(path, eye="right").x.tolist() == [12, 13]
    assert read(path, clip=1).x.tolist() == [45]
    assert read(path, stimulus="other").x.tolist() == [45]
    later = read(path, start_message="trialid 2", time_offset_seconds=1)
    assert later.time_seconds is not None
    assert later.time_seconds[0] == pytest.approx(1.007)
    with pytest.raises(StavisError, match=r"contains 2 clips; choose"):
        read(path, video="another")
    with pytest.raises(
        StavisError, match=r"no message with 'ONSET'; there are: TRIALID 2 clip\.avi; SYNCTIME"
    ):
        read(path, start_message="ONSET")


def test_files_of_several_recordings_serve_several_videos(tmp_path: Path) -> None:
    asc = write(tmp_path / "s1.asc", BOTH_EYES)
    one = write(tmp_path / "one.asc", BOTH_EYES[BOTH_EYES.index("MSG\t1995") :])
    bids = write_bids(tmp_path / "bids")
    assert holds_several_videos(asc, GazeOptions())
    assert not holds_several_videos(one, GazeOptions())
    assert not holds_several_videos(bids, GazeOptions())
    write(bids.with_name("sub-01_task-look_events.tsv"), "onset\tduration\tstim_file\n0.5\t2\tclip.mp4\n")
    assert holds_several_videos(bids, GazeOptions())


def test_eyelink_at_2000_hz_with_one_eye_and_the_frames_of_the_video(tmp_path: Path) -> None:
    samples = "".join(f"{1000 + k // 2}\t {10 + k:.1f}\t 20.0\t 900.0\t...\n" for k in range(6))
    path = write(
        tmp_path / "s2.txt",
        "MSG\t980 GAZE_COORDS 0.00 0.00 63.00 47.00\nSTART\t1000\tRIGHT\tSAMPLES\tEVENTS\n"
        f"MSG\t1000 -1 !V VFRAME 1 0 0 ..\\videos\\clip.avi\n{samples}END\t1003\tSAMPLES\tEVENTS\n",
    )
    gaze = read(path, eye="right")
    assert gaze.x.tolist() == [10, 11, 12, 13, 14, 15]  # no events in it: every sample counts
    # The frame was shown 1 ms after its message.
    assert gaze.time_seconds == pytest.approx(np.array([-1, -0.5, 0, 0.5, 1, 1.5]) / 1000)
    with pytest.raises(StavisError, match="the left eye was not recorded, only the right one"):
        read(path, eye="left")


def test_eyelink_events_without_samples(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s3.asc",
        HEAD + "MSG\t980 DISPLAY_COORDS 0 0 63 47\nSTART\t1000\tLEFT\tEVENTS\nEVENTS\tGAZE\tLEFT\n"
        "EFIX L   1000\t1019\t20\t   10.0\t   20.0\t    900\nESACC L  1020\t1039\t20\t10.0\t20.0\t30.0\t20.0\t1\t90\n"
        "EFIX L   1040\t1047\t8\t   30.0\t   20.0\t    900\nEND\t1048\tEVENTS\n",
    )
    gaze = read(path)
    assert gaze.time_seconds == pytest.approx([0, 0.004, 0.008, 0.012, 0.016, 0.040, 0.044])
    assert gaze.x.tolist() == [10] * 5 + [30] * 2


def test_eyelink_samples_without_a_header_are_not_diem(tmp_path: Path) -> None:
    rows = "".join(
        f"{19825744 + 2 * k}\t  50.3\t  40.2\t 1200.0\t  51.1\t  40.4\t 1100.0\t  127.0\t.....\n"
        for k in range(50)
    )
    path = write(tmp_path / "talk_s2.asc", rows)
    assert detect_format(path) == "eyelink"
    gaze = read(path, coordinates="video")
    assert gaze.x[0] == pytest.approx(50.7)
    assert gaze.time_seconds is not None
    assert gaze.time_seconds[-1] == pytest.approx(0.098)
    with pytest.raises(StavisError, match="a screen whose size the file does not say"):
        read(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SAMPLES\tGAZE", "SAMPLES\tHREF", "EyeLink ASC with HREF positions; convert it with gaze in pixels"),
        ("EFIX L   2002\t2004", "EFIX L   2002\tlate", "line 23: not a line of an EyeLink ASC file"),
        ("DISPLAY_COORDS 0 0 127 95", "DISPLAY_COORDS 0 0 1.2.7 95", "not a line of an EyeLink ASC file"),
        ("2004\t  22.0", "2004\t  2x.0", "a sample has no number in column 2"),
        ("2004\t", "1004\t", "not in the order of time"),
    ],
)
def test_bad_eyelink_files_are_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path / "s1.asc", BOTH_EYES.replace(old, new))
    with pytest.raises(StavisError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    (tmp_path / "s1.edf").write_bytes(b"SR_RESEARCH_COMBFILE")
    with pytest.raises(StavisError, match="convert it to text: edf2asc"):
        read(tmp_path / "s1.edf")


# Tobii

TOBII_HEAD = (
    "Recording timestamp [μs]\tSensor\tParticipant name\tRecording name\tRecording resolution width\t"
    "Recording resolution height\tEvent\tPresented Stimulus name\tGaze point X [DACS px]\tGaze point Y [DACS px]\t"
    "Gaze point left X [DACS px]\tGaze point left Y [DACS px]\tEye movement type"
)


def tobii_row(
    time: int, who: str, event: str, stimulus: str, x: str, y: str, kind: str, sensor: str = "Eye Tracker"
) -> str:
    return f"{time}\t{sensor}\t{who}\tRec {who}\t128\t96\t{event}\t{stimulus}\t{x}\t{y}\t{x}\t{y}\t{kind}"


TOBII = "\r\n".join(
    [
        TOBII_HEAD,
        tobii_row(4_990_000, "ann", "", "Eyetracker Calibration", "64,5", "48,0", "Fixation"),
        tobii_row(5_000_000, "ann", "VideoStimulusStart", "clip", "", "", ""),
        tobii_row(5_000_000, "ann", "", "clip", "20,5", "40,25", "Fixation"),
        tobii_row(5_004_000, "ann", "", "clip", "", "", "", sensor="Mouse"),
        tobii_row(5_008_000, "ann", "", "clip", "24,5", "40,25", "Saccade"),
        tobii_row(5_016_000, "ann", "", "clip", "", "", "EyesNotFound"),
        tobii_row(5_024_000, "ann", "", "clip", "30,5", "40,25", "Fixation"),
        tobii_row(7_000_000, "bob", "", "clip", "60", "50", "Fixation"),
        tobii_row(7_008_000, "bob", "", "clip", "62", "50", "Fixation"),
    ]
)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8", "utf-16-le"])
def test_tobii_export_of_two_participants(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "export.tsv", TOBII, encoding)
    assert detect_format(path) == "tobii"
    gaze = read(path)
    assert gaze.observers == ("ann", "bob")
    assert gaze.observer.tolist() == [0, 0, 1, 1]
    assert gaze.x.tolist() == [10.25, 15.25, 30, 31]
    assert gaze.y.tolist() == [20.125, 20.125, 25, 25]
    # ann's video starts with its event, bob's with his first sample of it.
    assert gaze.time_seconds == pytest.approx([0, 0.024, 0, 0.008])
    assert dropped(gaze) == {"saccade": 1, "error": 1}
    assert read(path, eye="left").x.tolist() == gaze.x.tolist()
    with pytest.raises(
        StavisError, match="no row presents 'talk'; presented are: Eyetracker Calibration, clip"
    ):
        read(path, video="talk")
    assert len(read(path, video="talk", stimulus="CLIP")) == 4
    with pytest.raises(StavisError, match=r"without gaze of `eye=right`"):
        read(path, eye="right")


def test_tobii_studio_export_on_the_media(tmp_path: Path) -> None:
    path = write(
        tmp_path / "studio.tsv",
        "ParticipantName\tMediaName\tRecordingTimestamp\tGazePointX (MCSpx)\tGazePointY (MCSpx)\tGazePointX (ADCSpx)\t"
        "GazePointY (ADCSpx)\tGazeEventType\n"
        "P1\tclip.avi\t2000\t10\t20\t500\t600\tFixation\nP1\tclip.avi\t2033\t12\t20\t502\t600\tFixation\n"
        "P1\tother.avi\t9000\t1\t2\t5\t6\tFixation\n",
    )
    gaze = read(path)
    assert gaze.x.tolist() == [10, 12]
    assert gaze.time_seconds == pytest.approx([0, 0.033])
    # Norms of the media count as fractions of the video.
    norm = write(
        tmp_path / "norm.tsv",
        path.read_text().replace("(MCSpx)", "(MCSnorm)").replace("\t10\t20\t", "\t0,5\t0,25\t"),
    )
    assert read(norm).x[0] == 32


# Pupil Labs


def test_pupil_player_export(tmp_path: Path) -> None:
    rows = ["gaze_timestamp,world_index,confidence,norm_pos_x,norm_pos_y"]
    rows += ["500.10,0,0.95,0.25,0.75", "500.15,1,0.2,0.9,0.1", "500.20,2,0.6,0.5,0.0"]
    path = write(tmp_path / "000" / "gaze_positions.csv", "\n".join(rows) + "\n")
    write(path.with_name("world_timestamps.csv"), "# timestamps [seconds],pts\n500.05,0\n500.10,1\n")
    assert detect_format(path) == "pupil"
    gaze = read(path)
    assert gaze.observers == ("000",)
    assert gaze.x.tolist() == [16, 32]
    assert gaze.y == pytest.approx([12, 48])  # from the bottom: the lowest row still belongs to the picture
    assert gaze.y[1] < 48
    assert gaze.time_seconds == pytest.approx([0.05, 0.15])
    assert dropped(gaze) == {"low_confidence": 1}
    assert len(read(path, min_confidence=0)) == 3
    assert len(read(path, min_confidence=0.9)) == 1
    assert read(path, origin="top-left").y[0] == pytest.approx(36)
    assert read(path.parent).x.tolist() == [16, 32]  # the other file of the folder is not gaze
    path.with_name("world_timestamps.csv").unlink()
    alone = read(path, time_offset_seconds=-500.05)
    assert alone.time_seconds == pytest.approx([0.05, 0.15])


def test_pupil_cloud_export(tmp_path: Path) -> None:
    start = 1690000000000000000
    rows = ["section id,recording id,timestamp [ns],gaze x [px],gaze y [px],worn,fixation id,blink id"]
    rows += [f"s,r1,{start + 5_000_000},10.5,20.5,1,1,", f"s,r1,{start + 10_000_000},12.5,20.5,1,,"]
    rows += [f"s,r1,{start + 15_000_000},12.5,20.5,1,,1", f"s,r1,{start + 20_000_000},12.5,20.5,0,1,"]
    path = write(tmp_path / "ann" / "gaze.csv", "\n".join(rows) + "\n")
    write(path.with_name("world_timestamps.csv"), f"section id,timestamp [ns]\ns,{start}\n")
    gaze = read(path)
    assert (gaze.x.tolist(), gaze.y.tolist()) == ([10.5], [20.5])
    assert gaze.time_seconds == pytest.approx([0.005], abs=1e-6)
    assert dropped(gaze) == {"blink": 1, "unclassified": 1, "error": 1}
    write(path.with_name("world_timestamps.csv"), "section id,pts\ns,0\n")
    with pytest.raises(StavisError, match=r"world_timestamps\.csv: no times of the video's frames"):
        read(path)


# BIDS


def write_bids(folder: Path, **changes: object) -> Path:
    metadata = {
        "Columns": ["timestamp", "x_coordinate", "y_coordinate", "pupil_size"],
        "PhysioType": "eyetrack",
        "RecordedEye": "left",
        "SampleCoordinateSystem": "gaze-on-screen",
        "SamplingFrequency": 1000,
        "StartTime": 0.5,
    } | changes
    rows = [f"{7186800 + k}\t{20 + k}\t40\t4612.0" for k in range(6)] + ["7186806\tn/a\tn/a\tn/a"]
    path = folder / "sub-01" / "func" / "sub-01_task-look_recording-eye1_physio.tsv.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(("\n".join(rows) + "\n").encode()))
    write(path.with_name("sub-01_task-look_recording-eye1_physio.json"), json.dumps(metadata))
    screen = {"ScreenResolution": [128, 96], "ScreenOrigin": ["top", "left"], "ScreenDistance": 0.6}
    write(folder / "task-look_events.json", json.dumps({"StimulusPresentation": screen}))
    write(folder / "dataset_description.json", "{}")
    return path


def test_bids_recording_with_inherited_screen_and_events(tmp_path: Path) -> None:
    path = write_bids(tmp_path)
    assert detect_format(path) == "bids"
    gaze = read(path)
    assert gaze.observers == ("sub-01",)
    assert gaze.x.tolist() == [10, 10.5, 11, 11.5, 12, 12.5]
    assert gaze.time_seconds == pytest.approx(0.5 + np.arange(6) / 1000)
    assert dropped(gaze) == {"invalid": 1}
    # The video starts 0.501 s after the task.
    write(
        path.with_name("sub-01_task-look_events.tsv"),
        "onset\tduration\tstim_file\n0.501\t2\tvideos/clip.mp4\n",
    )
    shown = read(path)
    assert shown.time_seconds == pytest.approx(np.arange(-1, 5) / 1000)
    with pytest.raises(StavisError, match=r"no event presents 'talk'; stim_file names: videos/clip\.mp4"):
        read(path, video="talk")
    # Events in the ticks of the recording's clock.
    events = path.with_name("sub-01_task-look_recording-eye1_physioevents.tsv.gz")
    text = '7186799\tn/a\tn/a\t0\t"start"\n7186800\t2\tfixation\t0\tn/a\n7186802\t2\tsaccade\t0\tn/a\n'
    events.write_bytes(gzip.compress((text + "7186804\t3\tsaccade\t1\tn/a\n").encode()))
    described = {
        "Columns": ["onset", "duration", "trial_type", "blink", "message"],
        "ForeignIndexColumn": "timestamp",
    }
    write(path.with_name("sub-01_task-look_recording-eye1_physioevents.json"), json.dumps(described))
    parsed = read(path)
    assert parsed.x.tolist() == [10, 10.5]
    assert dropped(parsed) == {"saccade": 2, "blink": 3}
    # A folder of them is read without its events.
    assert read(path.parent).x.tolist() == [10, 10.5]


def test_bids_in_fractions_from_the_bottom_with_its_own_clock(tmp_path: Path) -> None:
    units = {
        "x_coordinate": {"Units": "normalized"},
        "y_coordinate": {"Units": "normalized"},
        "timestamp": {"Units": "ms"},
        "StartTime": 0,
    }
    path = write_bids(tmp_path, **units)
    rows = "1000\t0.25\t0.75\t1\n1010\t0.5\t0.25\t1\n"
    path.write_bytes(gzip.compress(rows.encode()))
    screen = {"ScreenResolution": [128, 96], "ScreenOrigin": ["bottom", "left"]}
    write(tmp_path / "task-look_events.json", json.dumps({"StimulusPresentation": screen}))
    gaze = read(path)
    assert gaze.x == pytest.approx([16, 32])
    assert gaze.y == pytest.approx([12, 36])
    assert gaze.time_seconds == pytest.approx([0, 0.01])


def test_bids_eye(tmp_path: Path) -> None:
    path = write_bids(tmp_path)
    assert len(read(path, eye="left")) == 6
    with pytest.raises(StavisError, match="7 samples read; dropped: 7 invalid"):
        read(path, eye="right")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PhysioType": "generic"}, "not eye tracking; its JSON needs PhysioType 'eyetrack'"),
        ({"Columns": ["timestamp", "x_coordinate"]}, "line 1: 4 cells, but Columns in its JSON has 2"),
        ({"Columns": None}, "no JSON beside it with Columns"),
        ({"SampleCoordinateSystem": "eye-in-head"}, "SampleCoordinateSystem 'eye-in-head'; allowed"),
        ({"x_coordinate": {"Units": "deg"}}, "coordinates in 'deg'; allowed are pixels and fractions"),
        ({"StartTime": "n/a"}, "StartTime 'n/a' in its JSON; a number of seconds"),
        ({"StartTime": [0]}, r"StartTime \[0\] in its JSON"),
        ({"SamplingFrequency": None}, "neither timestamp's Units nor a SamplingFrequency"),
    ],
)
def test_bad_bids_files_are_refused_in_one_line(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = write_bids(tmp_path, **changes)
    with pytest.raises(StavisError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_bids_recording_without_a_sample_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_bids(tmp_path)
    path.write_bytes(gzip.compress(b"", mtime=0))
    assert read_or_refuse(path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8b\x08",
        gzip.compress(b"1\t2\t3\t4\n", mtime=0)[:-6],
        gzip.compress(b"\0\x01\x02", mtime=0),
    ],
)
def test_damaged_gzip_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = write_bids(tmp_path)
    path.write_bytes(content)
    assert read_or_refuse(path) is None


@pytest.mark.slow
def test_mutated_files_give_gaze_or_one_error(tmp_path: Path) -> None:
    seeds = {"s1.asc": BOTH_EYES.encode(), "export.tsv": TOBII.encode("utf-16"), "plain.tsv": TOBII.encode()}
    seeds["gaze_positions.csv"] = (
        b"gaze_timestamp,confidence,norm_pos_x,norm_pos_y\n0.1,0.9,0.2,0.7\n0.2,0.9,0.4,0.1\n"
    )
    bids = write_bids(tmp_path / "bids")
    sidecar = bids.with_name("sub-01_task-look_recording-eye1_physio.json")
    seeds |= {str(bids): gzip.decompress(bids.read_bytes()), str(sidecar): sidecar.read_bytes()}
    tokens = [
        b"nan",
        b"-1",
        b"1e999",
        b"\t",
        b",",
        b"\n",
        b"\0",
        b"\xff",
        b"MSG",
        b"START",
        b'"',
        b"[",
        b"null",
        b".",
    ]
    rng = np.random.default_rng(5)
    num_read = 0
    for name, seed in seeds.items():
        for _ in range(50):
            data = bytearray(seed)
            for _ in range(int(rng.integers(1, 5))):
                at, cut = int(rng.integers(len(data) + 1)), int(rng.integers(6))
                data[at : at + cut] = tokens[rng.integers(len(tokens))]
            path = tmp_path / name
            path.write_bytes(data)
            read_from = bids if path == sidecar else path
            gaze = read_or_refuse(read_from, named=path.name.split("_recording")[0], screen=(128, 96))
            if gaze is not None:
                num_read += 1
                assert ((gaze.x >= 0) & (gaze.x < 64) & (gaze.y >= 0) & (gaze.y < 48)).all()
        (tmp_path / name).write_bytes(seed)
    assert num_read > 30
