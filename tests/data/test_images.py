"""Image files of every mode, by value; the ops that read and resize images."""

import io

import numpy as np
import pytest
from PIL import Image

from core.errors import UserError
from core.info import Key
from data.preprocess.pipeline import Pipeline, fit, parse_op
from data.sources.files import Columns
from data.sources.images import decode_colours, image_format, image_size, read_image, read_label_map
from tests.data.drawn import draw

GREY = np.array([[0, 100, 255], [7, 8, 9]], np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
DEEP = np.array([[0, 256, 65535], [1, 2, 300]], np.uint16)
PALETTE = [10, 20, 30, 200, 100, 50]


def palette(transparent=False):
    image = Image.fromarray(np.array([[0, 1, 0], [1, 1, 0]], np.uint8), mode="P")
    image.putpalette(PALETTE)
    if transparent:
        image.info["transparency"] = 1
    return image


def stored(image, suffix, **options):
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def big_endian():
    image = Image.frombytes("I;16B", (3, 2), DEEP.astype(">u2").tobytes())
    return stored(image, "tiff")


CASES = {
    "1": (stored(Image.fromarray(GREY > 50).convert("1"), "png"), np.where(GREY > 50, 255, 0)[..., None]),
    "L": (stored(Image.fromarray(GREY), "png"), GREY[..., None]),
    "RGB": (stored(Image.fromarray(COLOUR), "png"), COLOUR),
    "P": (stored(palette(), "png"), np.array(PALETTE).reshape(2, 3)[[[0, 1, 0], [1, 1, 0]]]),
    "P, transparent": (
        stored(palette(), "png", transparency=1),
        np.array([[10, 20, 30], [255, 255, 255]])[[[0, 1, 0], [1, 1, 0]]],
    ),
    "CMYK": (stored(Image.new("CMYK", (3, 2), (255, 0, 0, 0)), "tiff"), np.tile([0, 255, 255], (2, 3, 1))),
    "I;16": (stored(Image.fromarray(DEEP), "png"), DEEP[..., None] / 65535),
    "I;16B": (big_endian(), DEEP[..., None] / 65535),
    "I": (stored(Image.fromarray(DEEP.astype(np.int32)), "tiff"), DEEP[..., None] / 65535),
    "F": (stored(Image.fromarray(DEEP.astype(np.float32) / 65535), "tiff"), DEEP[..., None] / 65535),
}


@pytest.mark.parametrize("mode", CASES)
def test_every_mode_is_read_by_value(mode, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(CASES[mode][0])
    with Image.open(path) as image:
        assert image.mode == mode.partition(",")[0]
    pixels = read_image(path)
    np.testing.assert_allclose(pixels, CASES[mode][1], rtol=1e-6)
    is_deep = CASES[mode][1].dtype == np.float64
    assert pixels.dtype == ("float32" if is_deep else "uint8")
    assert image_format([path]) == (pixels.shape[-1], pixels.dtype)
    for channels in (1, 3):
        eight = read_image(path, channels, "uint8")
        assert eight.shape == (2, 3, channels) and eight.dtype == np.uint8
        np.testing.assert_allclose(read_image(path, channels, "float32"), eight / 255, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_white(mode, tmp_path):
    path = tmp_path / "image.png"
    colours = GREY[..., None] if mode == "LA" else COLOUR
    alpha = np.array([[0, 128, 255], [0, 128, 255]])[..., None]
    Image.fromarray(np.concatenate([colours, alpha.astype(np.uint8)], axis=-1), mode=mode).save(path)
    expected = (colours * alpha + 255.0 * (255 - alpha)) / 255
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.shape == colours.shape
    np.testing.assert_allclose(pixels, expected, atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(orientation, tmp_path):
    path = tmp_path / "image.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(path, exif=exif)
    expected = {
        1: GREY,
        2: GREY[:, ::-1],
        3: GREY[::-1, ::-1],
        4: GREY[::-1],
        5: GREY.T,
        6: np.rot90(GREY, -1),
        7: GREY[::-1, ::-1].T,
        8: np.rot90(GREY),
    }[orientation]
    np.testing.assert_array_equal(read_image(path)[..., 0], expected)
    assert image_size(path) == expected.shape


@pytest.mark.parametrize(("mode", "values"), [("F", [[0, 1.5]]), ("F", [[np.nan, 0]]), ("I", [[-1, 3]])])
def test_values_without_a_known_range_are_refused(mode, values, tmp_path):
    path = tmp_path / "image.tif"
    Image.fromarray(np.array(values, np.float32 if mode == "F" else np.int32)).save(path)
    with pytest.raises(UserError, match=r"image.tif has pixels outside the range of its type"):
        read_image(path)


def test_broken_files_are_named_in_one_line(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    for content in (b"", b"broken", CASES["RGB"][0][:60]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"image.png is not an image that Pillow can read") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(CASES["RGB"][0])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"image.png .*decompression bomb"):
            read(path)
    with pytest.raises(UserError, match=r"nowhere.png does not exist"):
        read_image(tmp_path / "nowhere.png")


def test_label_maps_hold_ids(tmp_path):
    path = tmp_path / "map.png"
    palette().save(path)
    assert read_label_map(path)[..., 0].tolist() == [[0, 1, 0], [1, 1, 0]]
    Image.fromarray(DEEP).save(path)
    np.testing.assert_array_equal(read_label_map(path)[..., 0], DEEP)
    Image.fromarray(GREY > 50).save(path)
    np.testing.assert_array_equal(read_label_map(path)[..., 0], GREY > 50)


def fitted(text, columns, roles):
    examples = Columns({key: (values, None) for key, values in columns.items()})
    keys = {key: Key(role=role) for key, role in roles.items()}
    pipeline, splits, described = fit((text,), {"train": examples}, keys)
    return pipeline, splits["train"].chunk(np.arange(len(examples))), described


def test_resize_moves_every_key_by_its_role():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (8, 6, 3), np.uint8)
    columns = {
        "image": [image],
        "label_map": [np.arange(48, dtype=np.uint8).reshape(8, 6, 1)],
        "video": [np.stack([image, image[::-1]])],
        "volume": [rng.random((5, 8, 6, 1), np.float32)],
        "boxes": [np.array([[0, 0, 0.5, 1]], np.float32)],
        "label": np.array([3]),
    }
    _, chunk, _ = fitted("resize(height=4, width=3)", columns, {key: key for key in columns})
    expected = np.asarray(Image.fromarray(image).resize((3, 4), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(chunk["image"][0], expected)
    np.testing.assert_array_equal(chunk["video"][0][0], expected)
    assert chunk["video"][0].shape == (2, 4, 3, 3) and chunk["volume"][0].shape == (5, 4, 3, 1)
    assert chunk["volume"][0].dtype == np.float32
    assert chunk["label_map"][0][..., 0].tolist() == [[7, 9, 11], [19, 21, 23], [31, 33, 35], [43, 45, 47]]
    assert chunk["boxes"] is not None and chunk["boxes"][0].tolist() == [[0, 0, 0.5, 1]]
    assert list(chunk["label"]) == [3]


def marked(height, width, top, left, bottom, right):
    """Returns a black image with a white rectangle, a label map with class 1 there, and the rectangle in fractions."""
    image = np.zeros((height, width, 3), np.uint8)
    image[top:bottom, left:right] = 255
    box = np.array([[top / height, left / width, bottom / height, right / width]], np.float32)
    return image, (image[..., :1] > 0).astype(np.uint8), box


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 30), (16, 80), (33, 47), (7, 5)])
def test_a_letterbox_moves_every_key_with_its_image(height, width):
    """The rectangle is found again in the padded image and in the label map, within a pixel of the moved box."""
    top, left, bottom, right = height // 4, width // 5, 3 * height // 4, 4 * width // 5
    image, labels, box = marked(height, width, top, left, bottom, right)
    columns = {"image": [image], "label_map": [labels], "boxes": [box], "points": [box[:, :2]]}
    columns |= {"video": [np.stack([image, image])], "label": np.array([3])}
    _, chunk, keys = fitted("letterbox(36, 48, fill=0.5)", columns, {key: key for key in columns})
    scale = min(36 / height, 48 / width)
    rows, cols = round(scale * height), round(scale * width)
    assert (rows, cols) != (36, 48) and max(rows / 36, cols / 48) == 1
    np.testing.assert_allclose(chunk["image_region"][0], [0, 0, rows / 36, cols / 48])
    expected = np.full((36, 48, 3), 127, np.uint8)
    expected[:rows, :cols] = np.asarray(Image.fromarray(image).resize((cols, rows), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(chunk["image"][0], expected)
    np.testing.assert_array_equal(chunk["video"][0], np.stack([expected, expected]))
    found = chunk["label_map"][0][..., 0]
    assert (found[:rows, :cols] <= 1).all() and (found[rows:] == 255).all() and (found[:, cols:] == 255).all()
    edges = chunk["boxes"][0][0] * [36, 48, 36, 48]
    for lit in (found == 1, chunk["image"][0][..., 0] > 127):
        ys, xs = np.nonzero(lit)
        seen = [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]
        np.testing.assert_allclose(edges, seen, atol=1)
    np.testing.assert_array_equal(chunk["points"][0], chunk["boxes"][0][:, :2])
    assert list(chunk["label"]) == [3] and keys["boxes"].role == "boxes" and keys["image_region"].role == "region"


def test_letterboxes_of_several_sizes_and_without_boxes():
    images = [np.zeros((10, 20, 3), np.uint8), np.zeros((20, 10, 3), np.uint8)]
    columns = {"image": images, "boxes": [np.zeros((0,), np.float32), np.ones((2, 4), np.float32)]}
    pipeline, chunk, _ = fitted("letterbox(8, 8)", columns, {key: key for key in columns})
    assert chunk["boxes"][0].shape == (0, 4)
    np.testing.assert_array_equal(chunk["boxes"][1], [[1, 0.5, 1, 0.5]] * 2)
    np.testing.assert_array_equal(chunk["image_region"], [[0, 0, 0.5, 1], [0, 0, 1, 0.5]])
    twice = Pipeline((*pipeline.texts, "letterbox(16, 8)"), (*pipeline.states, *pipeline.states))
    again = twice({"image": images[:1]})  # new inputs have no boxes
    assert again["image"][0].shape == (16, 8, 3) and again["image_region"].tolist() == [[0, 0, 0.25, 1]]
    with pytest.raises(UserError, match="fill must be from 0 to 1"):
        parse_op("letterbox(4, 4, fill=2.0)")
    with pytest.raises(UserError, match="letterbox: the set has no images but text"):
        fitted("letterbox(4, 4)", {"text": ["a"]}, {"text": "text"})


def test_resize_refusals():
    with pytest.raises(UserError, match=r"resize\(0, 4\).*height must be from 1 to 16384, not 0"):
        parse_op("resize(0, 4)")
    with pytest.raises(UserError, match="resize: the set has no images but text"):
        fitted("resize(4, 4)", {"text": ["a"]}, {"text": "text"})


def test_paths_become_images(tmp_path):
    draw(tmp_path / "a.png", 7)
    draw(tmp_path / "sub" / "b.png", (1, 2, 3), mode="RGB")
    columns = {"photo": ["a.png", f"{tmp_path}/sub/b.png"], "folder/": [str(tmp_path)] * 2, "label": [0, 1]}
    roles = {"photo": "text", "label": "label"}
    pipeline, chunk, described = fitted("read_image('photo')", columns, roles)
    assert [image[0, 0].tolist() for image in chunk["image"]] == [[7, 7, 7], [1, 2, 3]]
    assert "photo" not in chunk and described["image"] == Key(role="image") and "photo" not in described
    assert pipeline({"label": [1]}) == {"label": [1]}
    assert pipeline({"photo": [f"{tmp_path}/a.png"]})["image"][0].dtype == np.uint8
    grey = fitted("read_image('photo', channels=1)", columns, roles)[1]
    assert grey["image"][0].shape == (4, 6, 1)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a.png", "c.png"], r"read_image: 'photo': .*c.png does not exist \(1 of 2 files of 'train' are missing\)"),
        (["a.png", None], "read_image: 'photo' is missing in some rows of 'train'"),
        (["a.png", "b.txt"], "b.txt is not an image"),
    ],
)
def test_paths_that_cannot_be_read(paths, message, tmp_path):
    draw(tmp_path / "a.png", 7)
    (tmp_path / "b.txt").write_text("text")
    columns = {"photo": paths, "folder/": [str(tmp_path)] * 2}
    with pytest.raises(UserError, match=message):
        fitted("read_image('photo')", columns, {"photo": "text"})
    with pytest.raises(UserError, match="read_image: 'foto' does not exist: did you mean 'photo'"):
        fitted("read_image('foto')", columns, {"photo": "text"})
    with pytest.raises(UserError, match="'photo' is not text"):
        fitted("read_image('photo')", columns, {"photo": "number"})


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}], ids=["plain", "progressive", "444"]
)
def test_jpeg_is_decoded_as_pillow_does(mode, options):
    file = io.BytesIO()
    smooth = np.add.outer(np.arange(40), 2 * np.arange(30))[..., None] + np.array([0, 40, 80, 10][: len(mode)])
    Image.fromarray(np.squeeze(smooth.astype(np.uint8)), mode).save(file, "jpeg", **options)
    pixels = decode_colours(file.getvalue())
    expected = np.asarray(Image.open(file).convert("RGB"))
    # OpenCV and Pillow round the conversion of inks to colours differently.
    assert np.abs(pixels.astype(int) - expected).max() <= (0 if mode != "CMYK" else 2)


def test_broken_jpeg_is_refused():
    file = io.BytesIO()
    Image.fromarray(np.stack([GREY] * 3, axis=-1)).save(file, "jpeg")
    with pytest.raises(ValueError, match="cannot decode"):
        decode_colours(file.getvalue()[:40])
