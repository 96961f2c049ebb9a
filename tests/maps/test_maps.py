import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stavis import maps
from stavis.errors import StavisError
from stavis.maps import matfile
from stavis.maps.matfile import read_matrix
from support.places import GOLDENS


def golden_units(name: str) -> list[object]:
    """Every recorded unit test of this name, in every set of goldens."""
    units = [
        u for path in sorted(GOLDENS.rglob("units_octave.json")) for u in json.loads(path.read_text())[name]
    ]
    return units or [
        pytest.param(None, marks=pytest.mark.skip(reason="needs recorded numbers: STAVIS_GOLDENS"))
    ]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


# --- Against Octave ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", golden_units("imresize"))
def test_resize_equals_matlab(unit: dict) -> None:
    given_map = np.reshape(np.asarray(unit["input_rowmajor"], dtype=float), unit["in_size"])
    # Octave does not normalize antialiasing weights; where it matters MATLAB's rule was recorded too.
    expected = unit["matlab_emulated_rowmajor"] if unit["antialiased"] else unit["octave_rowmajor"]
    resized = maps.resize(given_map, tuple(unit["out_size"]))
    np.testing.assert_allclose(resized.ravel(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("unit", golden_units("postprocessMap"))
def test_postprocess_equals_octave(unit: dict) -> None:
    prediction = np.reshape(np.asarray(unit["uint8_rowmajor"], dtype=np.uint8), unit["size"])
    expected = np.asarray(unit["out_rowmajor"], dtype=float)  # null becomes nan
    for same in (prediction, prediction / 255, prediction.astype(np.float32)):
        np.testing.assert_allclose(maps.postprocess(same).ravel(), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(maps.postprocess(prediction).ravel(), expected, rtol=0, atol=1e-12)


def test_blur_is_the_recorded_gaussian(golden: Path) -> None:
    for path in golden.rglob("units_octave.json"):
        kernel = np.reshape(json.loads(path.read_text())["fspecial_gaussian_13_2_rowmajor"], (13, 13))
        impulse = np.zeros((13, 13))
        impulse[6, 6] = 1
        np.testing.assert_allclose(maps.blur(impulse, 2), kernel, rtol=0, atol=1e-15)


# --- Resizing and blurring --------------------------------------------------------------------------------------------

sizes = st.integers(1, 70)


@given(sizes, sizes)
def test_resize_weights_average(num_in: int, num_out: int) -> None:
    weights = maps.resize_weights(num_in, num_out)
    assert weights.shape == (num_out, num_in)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-14)
    # Mirroring the input mirrors the output.
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-13)


@given(sizes, sizes, st.integers(1, 200), st.integers(1, 200))
@settings(deadline=None)
def test_resize_is_the_product_with_both_weight_matrices(h: int, w: int, height: int, width: int) -> None:
    values = noise(h, w)
    expected = maps.resize_weights(h, height) @ values @ maps.resize_weights(w, width).T
    np.testing.assert_allclose(maps.resize(values, (height, width)), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("seed", range(12))
def test_bounds_mean_and_variation_are_those_of_the_result(seed: int) -> None:
    """Of noise, whose extremes resizing exceeds most, of plateaus, and of faint maps on a high level."""
    rng = np.random.default_rng(seed)
    values = rng.random(rng.integers(1, 40, 2)) ** rng.choice([0, 1, 20])
    values = np.round(values * rng.choice([1.0, 1e-3])) if seed % 3 else values * 1e-4 + 0.5
    if seed % 4 == 1:
        values = np.indices(values.shape).sum(axis=0) % 2.0  # a checkerboard
    height, width = np.array(values.shape) * rng.integers(2, 9, 2) + rng.integers(0, 5, 2)
    resized = maps.TiledResize(values, (height, width))
    result = maps.resize(values, (height, width))
    lows, highs = resized.bounds()
    assert len(lows) == len(highs) == resized.num_tiles
    for index, (low, high) in enumerate(zip(lows, highs, strict=True)):
        _, tile = resized.tile(index)
        span = np.ptp(values)
        assert low <= tile.min() <= low + 0.6 * span + 2e-6
        assert high >= tile.max() >= high - 0.6 * span - 2e-6
    assert resized.mean() == pytest.approx(result.mean(), rel=1e-13)
    assert resized.variation() == pytest.approx(((result - result.mean()) ** 2).sum(), rel=1e-11, abs=1e-25)


def test_resize_agrees_with_pillow_away_from_the_border() -> None:
    values = noise(40, 50)
    for size in ((111, 170), (40, 170), (20, 31)):
        width, height = size[1], size[0]
        pillow = np.asarray(
            Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        )
        # As many output pixels as the kernel reaches beyond the border: 2 input pixels, more when shrinking.
        y, x = (int(np.ceil(3 * max(a / b, 1))) for a, b in zip(size, values.shape, strict=True))
        np.testing.assert_allclose(
            maps.resize(values, size)[y:-y, x:-x], pillow[y:-y, x:-x], rtol=0, atol=2e-6, err_msg=str(size)
        )


def test_resize_to_the_same_size_is_a_copy() -> None:
    values = noise(5, 6)
    same = maps.resize(values, (5, 6))
    np.testing.assert_array_equal(same, values)
    same[:] = 0
    assert values.any()


@pytest.mark.parametrize("bad", [np.zeros(5), np.zeros((5, 0)), np.zeros((2, 3, 4))])
def test_resize_refuses_bad_maps(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a map is"):
        maps.resize(bad, (4, 4))
    with pytest.raises(ValueError, match="a prediction is"):
        maps.postprocess(bad)


def test_resize_refuses_an_empty_size() -> None:
    with pytest.raises(ValueError, match="0x7"):
        maps.resize(np.zeros((4, 4)), (0, 7))


def test_blur_mirrors_the_border_and_keeps_the_sum() -> None:
    values = noise(20, 9)
    padded = np.pad(values, 12, mode="symmetric")
    np.testing.assert_allclose(maps.blur(values, 4), maps.blur(padded, 4)[12:-12, 12:-12], atol=1e-14)
    assert maps.blur(values, 4).sum() == pytest.approx(values.sum())


def test_postprocess_of_maps_without_a_prediction() -> None:
    assert np.isnan(maps.postprocess(np.zeros((4, 5), np.uint8))).all()
    assert np.isnan(maps.postprocess(np.full((4, 5), np.nan))).all()
    np.testing.assert_array_equal(maps.postprocess(np.full((4, 5), 7, np.uint8)), np.full((4, 5), 0.5))


@given(st.floats(1e-3, 1e3))
def test_postprocess_does_not_depend_on_scale(scale: float) -> None:
    values = noise(14, 11)
    np.testing.assert_allclose(maps.postprocess(values * scale), maps.postprocess(values), atol=1e-14)


def test_postprocess_counts_negative_values_as_zero() -> None:
    values = noise(14, 11) - 0.2
    np.testing.assert_array_equal(maps.postprocess(values), maps.postprocess(values.clip(0)))


# --- Density maps -----------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 40), st.integers(1, 40), st.floats(0.7, 9), st.integers(0, 20), st.integers(0, 1000)
)  # fmt: skip
@settings(deadline=None)
def test_density_is_the_convolution_with_a_gaussian(
    h: int, w: int, sigma: float, num: int, seed: int
) -> None:
    fixations = np.zeros((h, w))
    rng = np.random.default_rng(seed)
    np.add.at(fixations, (rng.integers(h, size=num), rng.integers(w, size=num)), 1)
    expected = scipy.ndimage.gaussian_filter(fixations, sigma, mode="constant", truncate=10)
    np.testing.assert_allclose(maps.density_from_fixations(fixations, sigma), expected, rtol=0, atol=1e-13)


def test_density_of_one_central_fixation_sums_to_one() -> None:
    fixations = np.zeros((81, 81), bool)
    fixations[40, 40] = True
    density = maps.density_from_fixations(fixations, 4)
    assert density.sum() == pytest.approx(1, abs=1e-12)
    assert np.unravel_index(density.argmax(), density.shape) == (40, 40)


def test_density_refuses_bad_arguments() -> None:
    with pytest.raises(ValueError, match="sigma_pixels is 0"):
        maps.density_from_fixations(np.zeros((3, 3)), 0)
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        maps.density_from_fixations(np.zeros(3), 1)


def test_to_8bit_reaches_255_and_keeps_zero() -> None:
    assert maps.to_8bit(np.array([[0, 0.5, 1.0], [2, 0.0039, 0.004]])).tolist() == [[0, 64, 128], [255, 0, 1]]
    assert maps.to_8bit(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]
    assert maps.to_8bit(np.full((2, 2), 1e-300)).max() == 255


# --- 8-bit files ------------------------------------------------------------------------------------------------------


def test_png_round_trip_is_exact_and_jpeg_close(tmp_path: Path) -> None:
    values = maps.to_8bit(maps.density_from_fixations(np.eye(64, 80, dtype=bool), 6))
    maps.write_map(tmp_path / "a" / "map.png", values)
    np.testing.assert_array_equal(maps.read_map(tmp_path / "a" / "map.png"), values)
    for name in ("map.jpg", "map.JPEG"):
        maps.write_map(tmp_path / name, values)
        with Image.open(tmp_path / name) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "L", (80, 64))
        assert np.abs(maps.read_map(tmp_path / name).astype(int) - values).max() <= 8
    coarse = tmp_path / "coarse.jpg"
    maps.write_map(coarse, values, quality=5)
    assert coarse.stat().st_size < (tmp_path / "map.jpg").stat().st_size


def test_write_map_refuses_other_formats_and_types(tmp_path: Path) -> None:
    with pytest.raises(StavisError, match=r"cannot write a map as '\.tiff'; allowed: \.jpg, \.jpeg, \.png"):
        maps.write_map(tmp_path / "map.tiff", np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        maps.write_map(tmp_path / "map.png", np.zeros((2, 2)))
    assert not list(tmp_path.iterdir())


def test_colored_prediction_gives_its_first_channel_and_ground_truth_is_refused(tmp_path: Path) -> None:
    channels = (noise(6, 7, 3) * 255).astype(np.uint8)
    path = tmp_path / "map.png"
    for mode, num in (("RGB", 3), ("RGBA", 4), ("LA", 2)):
        Image.fromarray(channels).convert(mode).save(path)
        first = np.asarray(Image.fromarray(channels).convert(mode))[..., 0]
        np.testing.assert_array_equal(maps.read_map(path), first)
        with pytest.raises(
            StavisError, match=rf"map\.png: has {num} channels \({mode}\); ground truth must be gray"
        ):
            maps.read_density_map(path)


def test_bilevel_and_palette_images(tmp_path: Path) -> None:
    binary = noise(6, 7) > 0.5
    path = tmp_path / "map.png"
    Image.fromarray(binary).save(path)
    np.testing.assert_array_equal(maps.read_density_map(path), binary * np.uint8(255))
    gray = (noise(6, 7) * 255).astype(np.uint8)
    Image.fromarray(gray).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    np.testing.assert_allclose(maps.read_map(path).astype(int), gray, atol=1)


def jpeg_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((noise(60, 70) * 255).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def bmp_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (3, 3)).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.jpg", b""),
        ("text.jpg", b"not a picture"),
        ("truncated.jpg", jpeg_bytes()[:900]),
        ("header only.jpg", jpeg_bytes()[:20]),
        ("a bmp.png", bmp_bytes()),
    ],
)
def test_unreadable_maps_are_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(StavisError, match=rf"{name}: cannot be read \(.+\); expected an 8-bit JPEG or PNG"):
        maps.read_map(tmp_path / name)


def test_missing_maps_and_16_bit_density_maps_are_errors(tmp_path: Path) -> None:
    with pytest.raises(StavisError, match=r"none\.jpg: map not found"):
        maps.read_map(tmp_path / "none.jpg")
    Image.fromarray(np.zeros((3, 3), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(StavisError, match=r"deep\.png: has Pillow mode 'I;16'; expected an 8-bit gray"):
        maps.read_map(tmp_path / "deep.png")


def test_predictions_may_have_16_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 1 << 16, (5, 7)).astype(np.uint16)
    for name, image in (("gray.png", values), ("own.PNG", values[::-1])):
        Image.fromarray(image).save(tmp_path / name)
        read = maps.read_prediction(tmp_path / name)
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read, image)
    Image.fromarray((values >> 8).astype(np.uint8)).save(tmp_path / "gray8.png")
    assert maps.read_prediction(tmp_path / "gray8.png").dtype == np.uint8


# --- Fixation files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.float32, np.float64])
def test_fixation_map_round_trip(tmp_path: Path, dtype: type) -> None:
    fixations = (noise(30, 40) > 0.9).astype(dtype)
    path = tmp_path / "maps" / "fixMap_00001.mat"
    maps.write_fixation_map(path, fixations)
    again = maps.read_fixation_map(path)
    np.testing.assert_array_equal(again, fixations)
    assert path.stat().st_size < 700


def test_pythons_own_zlib_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """zlib-ng is used where it is installed."""
    (tmp_path / "good.mat").write_bytes(mat_bytes(other=np.arange(5), eyeMap=np.eye(200, 300)))
    (tmp_path / "short.mat").write_bytes(mat_bytes(eyeMap=np.eye(200, 300))[:-9])
    expected = maps.read_fixation_map(tmp_path / "good.mat")
    monkeypatch.setattr(matfile, "zlib", zlib)
    np.testing.assert_array_equal(maps.read_fixation_map(tmp_path / "good.mat"), expected)
    with pytest.raises(StavisError, match="damaged"):
        maps.read_fixation_map(tmp_path / "short.mat")


@pytest.mark.parametrize("compressed", [False, True])
def test_sparse_and_logical_fixation_maps(tmp_path: Path, compressed: bool) -> None:
    fixations = noise(30, 40) > 0.9
    path = tmp_path / "fix.mat"
    for stored in (fixations, scipy.sparse.csc_array(fixations.astype(float))):
        scipy.io.savemat(path, {"other": 1, "eyeMap": stored}, do_compression=compressed)
        again = maps.read_fixation_map(path)
        assert isinstance(again, np.ndarray)
        np.testing.assert_array_equal(again > 0, fixations)


def mat_bytes(**variables: object) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, do_compression=True)
    return buffer.getvalue()


HDF5_HEADER = (
    b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n"
)
good_mat = mat_bytes(eyeMap=np.eye(9, 12))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"not a MATLAB 5 file \(0 bytes\)"),
        (
            b"some text that is no MATLAB file at all, but longer than its header of 128 bytes" * 3,
            "not a MATLAB 5 file",
        ),
        (good_mat[:150], "damaged MATLAB file"),
        (good_mat[:-3], "damaged MATLAB file"),
        (good_mat[:131], "damaged MATLAB file"),
        (good_mat[:128], "has no variable 'eyeMap'; found: none"),
        (HDF5_HEADER, r"a MATLAB 7\.3 \(HDF5\) file; save it with -v7"),
        (mat_bytes(fixations=np.eye(3), map=1), "has no variable 'eyeMap'; found: fixations, map"),
        (mat_bytes(), "has no variable 'eyeMap'; found: none"),
        (mat_bytes(eyeMap="text"), "'eyeMap' is text; expected a matrix of real numbers"),
        (mat_bytes(eyeMap={"a": 1}), "'eyeMap' is a struct; expected a matrix"),
        (
            mat_bytes(eyeMap=np.array([[np.eye(2)]], dtype=object)),
            "'eyeMap' is a cell array; expected a matrix",
        ),
        (mat_bytes(eyeMap=np.eye(3) * 1j), "'eyeMap' is complex; expected a matrix"),
        (mat_bytes(eyeMap=scipy.sparse.csc_array(np.eye(3) * 1j)), "'eyeMap' is complex; expected a matrix"),
        (mat_bytes(eyeMap=np.zeros((2, 3, 4))), r"has shape \(2, 3, 4\); expected \(height, width\)"),
        (mat_bytes(eyeMap=np.zeros((0, 0))), r"has shape \(0, 0\); expected \(height, width\)"),
    ],
)
def test_bad_fixation_files_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "fix.mat").write_bytes(data)
    with pytest.raises(StavisError, match=message) as error:
        maps.read_fixation_map(tmp_path / "fix.mat")
    assert str(tmp_path / "fix.mat") in str(error.value)
    assert "\n" not in str(error.value)


def test_sparse_matrix_of_an_absurd_size_is_refused(tmp_path: Path) -> None:
    huge = scipy.sparse.csc_array(([1.0], ([5], [2])), shape=(2_000_000_000, 3))
    scipy.io.savemat(tmp_path / "fix.mat", {"eyeMap": huge})
    with pytest.raises(
        StavisError, match=r"damaged MATLAB file \(a sparse matrix of the size \(2000000000, 3\)\)"
    ):
        maps.read_fixation_map(tmp_path / "fix.mat")


def test_missing_fixation_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StavisError, match=r"fix\.mat: cannot be read \(No such file or directory\)"):
        maps.read_fixation_map(tmp_path / "fix.mat")


sparse_mat = mat_bytes(before=np.arange(7), eyeMap=scipy.sparse.csc_array(np.eye(9, 12)))


def unpacked(data: bytes) -> bytes:
    """The same file without compression."""
    result, begin = data[:128], 128
    while begin < len(data):
        size = int.from_bytes(data[begin + 4 : begin + 8], "little")
        result += zlib.decompress(data[begin + 8 : begin + 8 + size])
        begin += 8 + size
    return result


@given(
    source=st.sampled_from([good_mat, unpacked(good_mat), sparse_mat, unpacked(sparse_mat)]),
    position=st.integers(0, 2000),
    value=st.integers(0, 255),
    length=st.integers(0, 2000),
)
@settings(max_examples=400, deadline=None)
def test_a_damaged_file_gives_a_matrix_or_an_error_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, source: bytes, position: int, value: int, length: int
) -> None:
    data = bytearray(source)
    data[position % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "fix.mat"
    for damaged in (data, data[:length], source[:length]):
        path.write_bytes(damaged)
        message = "fix.mat"
        try:
            assert maps.read_fixation_map(path).ndim == 2
        except StavisError as error:
            message = str(error)
        assert "fix.mat" in message


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_hand_made_uncompressed_file(tmp_path: Path, byte_order: str) -> None:
    """Both byte orders, and a double matrix that is stored in 8 bits, as MATLAB does with zeros and ones."""
    order = "<" if byte_order == "little" else ">"

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack(order + "II", kind, len(data)) + data + bytes(-len(data) % 8)

    parts = element(6, struct.pack(order + "II", 6, 0)) + element(5, struct.pack(order + "ii", 2, 3))
    parts += element(1, b"eyeMap") + element(2, bytes([1, 0, 0, 1, 0, 5]))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(order + "H", 0x0100)
    header += b"IM" if byte_order == "little" else b"MI"
    path = tmp_path / "fix.mat"
    path.write_bytes(header + element(14, parts))
    assert maps.read_fixation_map(path).tolist() == [[1, 0, 0], [0, 1, 5]]
    np.testing.assert_array_equal(scipy.io.loadmat(path)["eyeMap"], maps.read_fixation_map(path))


def test_recorded_fixation_maps_read_as_scipy_reads_them(shared: Path) -> None:
    folders = {path.parent for path in shared.rglob("*.mat")}
    assert folders
    for path in [sorted(folder.glob("*.mat"))[-1] for folder in folders]:
        for name, matrix in scipy.io.loadmat(path).items():
            if not name.startswith("__") and matrix.dtype.kind in "bui":
                np.testing.assert_array_equal(read_matrix(path, name), matrix, err_msg=str(path))


def test_union_and_other_fixations() -> None:
    frames = [np.array([[1, 0, 0, 0]]), np.array([[0, 1, 2, 0]]), np.array([[0, 1, 0, 0]])]
    union = maps.union_of_fixations(frame for frame in frames)
    assert union.tolist() == [[True, True, True, False]]
    # A value other than 1 stays, as published.
    assert maps.other_fixations(union, frames[1]).tolist() == [[True, False, True, False]]
    assert maps.other_fixations(union, frames[1] > 0).tolist() == [[True, False, False, False]]
    assert union.tolist() == [[True, True, True, False]]
    with pytest.raises(ValueError, match="differ in size"):
        maps.union_of_fixations([np.zeros((2, 3)), np.zeros((3, 2))])
    with pytest.raises(ValueError, match="zero fixation maps"):
        maps.union_of_fixations([])


def test_tensors_are_taken_as_arrays_are(tmp_path: Path) -> None:
    array = np.array([[1, 0, 0, 0], [0, 0, 2, 0]], np.uint8)
    tensor = torch.from_numpy(array)
    union = maps.union_of_fixations([tensor, tensor > 1])
    assert np.array_equal(union, array > 0)
    assert isinstance(union, np.ndarray)
    assert np.array_equal(maps.fixated_pixels(tensor), maps.fixated_pixels(array))
    assert np.array_equal(maps.other_fixations(union, tensor), maps.other_fixations(union, array))
    assert np.array_equal(maps.density_from_fixations(tensor, 2.0), maps.density_from_fixations(array, 2.0))
    maps.write_fixation_map(str(tmp_path / "f.mat"), tensor > 0)
    assert np.array_equal(maps.read_fixation_map(str(tmp_path / "f.mat")), array > 0)
    maps.write_map(str(tmp_path / "m.png"), tensor)
    assert np.array_equal(maps.read_map(str(tmp_path / "m.png")), array)
