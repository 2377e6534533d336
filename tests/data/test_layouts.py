"""COCO JSON and PNG masks held against pycocotools' own reading and plain numpy, and the layouts against each other."""

import json
import re

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as api
from pycocotools.coco import COCO

from phalanx.config import SegmentData, validate_as
from phalanx.data.images import Grid
from phalanx.data.layouts import check, test_records, train_records, truth
from phalanx.data.oversample import oversampled
from phalanx.data.quarantine import kept_records, write_quarantine
from phalanx.errors import ConfigError, DataError
from phalanx.masks.planes import unpack

test_records.__test__ = False  # no test, for all its name
CLASSES = ["radius", "ulna", "lunate", "pisi_form"]
SHAPE = (60, 44)


def data(root, layout, **changes):
    return validate_as(
        SegmentData, {"name": "t", "root": root, "classes": CLASSES, "size": 64, "layout": layout} | changes
    )


def grid_of(shape, side):
    return Grid(*shape, side)


def image_at(path, shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, shape, np.uint8))


def ring(centre, radii, count=40):
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.array(centre) + np.stack([radii[0] * np.cos(angles), radii[1] * np.sin(angles)], 1)


BONES = [  # class, outline in pixel centres; overlapping, one class twice, one beyond the frame
    (0, ring((20, 25), (12, 18))), (1, ring((24, 28), (10, 9))), (3, ring((8, 50), (5, 5))),
    (3, ring((30, 8), (6, 4))), (2, ring((42, 40), (9, 12))),
]  # fmt: skip


def coco_file(root, segmentations, *, names=("ID1/a.png",), size=SHAPE, **changes):
    """A COCO set whose first image has the (class, segmentation) given."""
    for name in names:
        image_at(root / "images" / name)
    value = {
        "images": [{"id": 10 + i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": 10, "category_id": 5 + c, "segmentation": s, "iscrowd": 0}
            for i, (c, s) in enumerate(segmentations)
        ],
        "categories": [{"id": 5 + i, "name": name} for i, name in enumerate(CLASSES)],
    }
    for image in value["images"]:
        image |= dict(zip(("height", "width"), size, strict=True)) if size else {}
    path = root / "train.json"
    path.write_text(json.dumps(value | changes))
    return path


def rle(mask, compressed):
    runs = api.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        return {"size": list(mask.shape), "counts": runs["counts"].decode()}
    flat = np.concatenate([[0], mask.T.ravel().astype(int)])
    edges = np.flatnonzero(np.diff(flat))
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, mask.size]).tolist()}


def masks_by_pycocotools(path, shape=SHAPE):
    coco = COCO(str(path))
    stack = np.zeros((len(CLASSES), *shape), bool)
    for item in coco.anns.values():
        stack[item["category_id"] - 5] |= coco.annToMask(item).astype(bool)
    return stack


def planes_of(config, shape=SHAPE, side=None, number=0):
    record = train_records(config)[number]
    check(record, config)
    side = side or max(shape)
    return unpack(truth(record, config, grid_of(shape, side)), len(CLASSES))


polygons = st.lists(
    st.tuples(st.floats(-9, 60, width=32), st.floats(-9, 75, width=32)).map(lambda p: [round(v, 2) for v in p]),
    min_size=3,
    max_size=9,
)


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(polygons, min_size=1, max_size=2)), max_size=4))
def test_polygons_are_those_of_pycocotools(tmp_path_factory, shapes):
    root = tmp_path_factory.mktemp("coco")
    path = coco_file(root, [(c, [np.ravel(p).tolist() for p in parts]) for c, parts in shapes])
    found = planes_of(data(root, "coco"))
    np.testing.assert_array_equal(found[:, :, : SHAPE[1]], masks_by_pycocotools(path))
    assert not found[:, :, SHAPE[1] :].any()


@pytest.mark.parametrize("compressed", [True, False])
def test_run_lengths_are_those_of_pycocotools(tmp_path, compressed):
    stack = np.random.default_rng(0).random((len(CLASSES), *SHAPE)) < 0.4
    path = coco_file(tmp_path, [(c, rle(mask, compressed)) for c, mask in enumerate(stack)])
    found = planes_of(data(tmp_path, "coco"))[:, :, : SHAPE[1]]
    np.testing.assert_array_equal(found, masks_by_pycocotools(path))
    np.testing.assert_array_equal(found, stack)


def test_on_a_coarser_grid_polygons_are_the_scaled_ones(tmp_path):
    flat = [(c, [(p + 0.5).ravel().tolist()]) for c, p in BONES]
    coco_file(tmp_path / "whole", flat)
    half = [(c, [(np.array(parts[0]) / 2).tolist()]) for c, parts in flat]
    path = coco_file(tmp_path / "half", half, size=(30, 22))
    found = planes_of(data(tmp_path / "whole", "coco"), side=30)
    np.testing.assert_array_equal(found[:, :30, :22], masks_by_pycocotools(path, (30, 22)))


def test_points_may_refer_to_another_size_than_the_image_has(tmp_path):
    """COCO files of a set that was shrunk afterwards: heights and widths in the file are the annotation's."""
    coco_file(tmp_path / "same", [(c, [(p + 0.5).ravel().tolist()]) for c, p in BONES])
    double = [(c, [(2 * (p + 0.5)).ravel().tolist()]) for c, p in BONES]
    coco_file(tmp_path / "double", double, size=(120, 88))
    one, two = (planes_of(data(tmp_path / name, "coco")) for name in ("same", "double"))
    np.testing.assert_array_equal(one, two)
    coco_file(tmp_path / "turned", double, size=(88, 120))
    with pytest.raises(DataError, match="the mask is 88 x 120 and its image 60 x 44: other proportions"):
        planes_of(data(tmp_path / "turned", "coco"))


def test_patients_come_from_the_folder_a_key_or_each_image(tmp_path):
    path = coco_file(tmp_path, [], names=("ID1/a.png", "ID2/b.png"))
    value = json.loads(path.read_text())
    for image in value["images"]:
        image["patient"] = 7
    path.write_text(json.dumps(value))
    for group, groups in (("folder", ["ID1", "ID2"]), ("patient", ["7", "7"]), ("image", ["a", "b"])):
        found = train_records(data(tmp_path, "coco", coco={"group": group}))
        assert [(r.name, r.group) for r in found] == list(zip(("a.png", "b.png"), groups, strict=True))
    with pytest.raises(DataError, match=r"has no key 'patien' \(data\.coco\.group\); did you mean patient\?"):
        train_records(data(tmp_path, "coco", coco={"group": "patien"}))
    coco_file(tmp_path / "flat", [], names=("a.png",))
    with pytest.raises(DataError, match=r"'a\.png' has no folder that names the patient.*data\.coco\.group=image"):
        train_records(data(tmp_path / "flat", "coco"))


def test_images_without_annotation_are_empty_or_left_out(tmp_path):
    coco_file(tmp_path, [(0, [[1, 1, 9, 1, 9, 9]])], names=("ID1/a.png", "ID2/b.png"))
    assert not planes_of(data(tmp_path, "coco"), number=1).any()
    assert [r.name for r in train_records(data(tmp_path, "coco", skip_unlabelled=True))] == ["a.png"]


def test_the_test_set_is_the_one_named(tmp_path):
    coco_file(tmp_path, []).rename(tmp_path / "test.json")
    assert [r.name for r in test_records(data(tmp_path, "coco", coco={"test": "test.json"}))] == ["a.png"]
    with pytest.raises(DataError, match=r"data\.coco\.test: names no file.*images=DIR"):
        test_records(data(tmp_path, "coco"))


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ([[1, 2, 3, 4]], "a polygon of 2 points has no area"),
        ([[1, 2, 3, 4, 5]], "a polygon must be a list of numbers"),
        ([1, 2, 3, 4, 5, 6], "a polygon must be a list of numbers"),
        ([["1", "2", "3", "4", "5", "6"]], "a polygon must be a list of numbers"),
        ([[1, 2, 3, 4, 5, 1e9]], "a point is 1e+09 pixels away"),
        ([], "has no segmentation; draw it, or remove"),
        (None, "has no segmentation"),
        ({"counts": [5]}, "an RLE needs size [height, width] and counts"),
        ({"size": [60, 44], "counts": [5, 5]}, "the RLE's counts do not add up to 60 x 44"),
        ({"size": [60, 44], "counts": "zzzzzz"}, "the RLE cannot be decoded"),
        ({"size": [44, 60], "counts": [2640]}, "the mask is 44 x 60 and its image 60 x 44"),
    ],
)
def test_a_shape_that_cannot_be_used_is_named(tmp_path, segmentation, says):
    path = coco_file(tmp_path, [(0, [[1, 1, 9, 1, 9, 9]]), (1, segmentation)])
    with pytest.raises(DataError, match=re.escape(says)) as found:
        planes_of(data(tmp_path, "coco"))
    assert str(found.value).startswith(f"{path}: annotation 1 (id 1, image 10): ")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"categories": [{"id": 5, "name": "radiuss"}]}, "unknown class 'radiuss'; did you mean radius?"),
        ({"categories": []}, "no category has the id 5"),
        ({"images": []}, "no image has that id"),
        ({"images": 3}, "not a COCO file ('images' is 3, not a list)"),
        ({"annotations": [{"id": 3}]}, "needs the keys image_id, category_id and segmentation"),
    ],
)
def test_a_coco_file_that_does_not_fit_is_named(tmp_path, changes, says):
    path = coco_file(tmp_path, [(0, [[1, 1, 9, 1, 9, 9]])], **changes)
    with pytest.raises(DataError, match=re.escape(says)) as found:
        train_records(data(tmp_path, "coco"))
    assert str(found.value).startswith(f"{path}: ")


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match=r"train\.json: no such COCO file; data\.coco\.train"):
        train_records(data(tmp_path, "coco"))
    coco_file(tmp_path, [])
    (tmp_path / "images/ID1/a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: no such image, but train\.json lists it"):
        train_records(data(tmp_path, "coco"))


def test_a_changed_file_is_read_anew(tmp_path):
    coco_file(tmp_path, [])
    assert not planes_of(data(tmp_path, "coco")).any()
    coco_file(tmp_path, [(0, [[1, 1, 9, 1, 9, 9]])])
    assert planes_of(data(tmp_path, "coco")).any()


# masks


def mask_set(root, files, *, image="ID1/a.png"):
    """A mask set of one image, with masks by name below train/masks: arrays, or finished pictures."""
    image_at(root / "train/images" / image)
    (root / "train/masks").mkdir(parents=True, exist_ok=True)
    for name, mask in files.items():
        path = root / "train/masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(path)
    return root


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 5, SHAPE, np.uint8)


def expected(labels):
    return np.stack([labels == value for value in range(1, 5)])


@pytest.mark.parametrize("kind", ["L", "I;16", "P", "RGB", "LA"])
def test_a_label_map_of_any_kind_of_png(tmp_path, labels, kind):
    """The indices of a palette are the classes, whatever colours it gives them."""
    picture = Image.fromarray(labels.astype(np.uint16) if kind == "I;16" else labels)
    if kind == "P":
        picture = Image.fromarray(labels, "P")
        picture.putpalette([255 - i // 3 for i in range(768)])
    elif kind in ("RGB", "LA"):
        picture = picture.convert(kind)
    mask_set(tmp_path, {"ID1/a.png": picture})
    found = planes_of(data(tmp_path, "masks"))
    np.testing.assert_array_equal(found[:, :, : SHAPE[1]], expected(labels))
    assert not found[:, :, SHAPE[1] :].any()


def test_values_of_ones_own(tmp_path, labels):
    values = {"radius": 40, "ulna": 300, "lunate": 2, "pisi_form": 65535}
    table = np.array([0, *values.values()], np.uint16)
    mask_set(tmp_path, {"ID1/a.png": table[labels]})
    found = planes_of(data(tmp_path, "masks", masks={"values": values}))
    np.testing.assert_array_equal(found[:, :, : SHAPE[1]], expected(labels))


@pytest.mark.parametrize("name", ["ID1/a/{}.png", "ID1/a_{}.png"])
@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_for_each_class_may_overlap_and_be_missing(tmp_path, name, value):
    stack = np.random.default_rng(0).random((4, *SHAPE)) < 0.6
    stack[1] = False
    files = {name.format(CLASSES[c]): stack[c].astype(np.uint8) * value for c in (0, 2, 3)}
    mask_set(tmp_path, files)
    found = planes_of(data(tmp_path, "masks", masks={"kind": "classes"}))
    np.testing.assert_array_equal(found[:, :, : SHAPE[1]], stack)


@pytest.mark.parametrize("kind", ["1", "P", "RGB", "LA", "I;16"])
def test_a_mask_is_set_where_it_is_not_black(tmp_path, kind):
    mask = np.random.default_rng(0).random(SHAPE) < 0.5
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    if kind == "P":  # white listed first
        picture = Image.fromarray((~mask).astype(np.uint8), "P")
        picture.putpalette([255, 255, 255, 0, 0, 0])
    elif kind == "I;16":
        picture = Image.fromarray(mask.astype(np.uint16) * 3)
    elif kind != "L":
        picture = picture.convert(kind)
    mask_set(tmp_path, {"ID1/a/ulna.png": picture})
    found = planes_of(data(tmp_path, "masks", masks={"kind": "classes"}))
    np.testing.assert_array_equal(found[1, :, : SHAPE[1]], mask)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 70), st.integers(1, 70), st.integers(1, 64))
def test_a_mask_of_another_size_is_brought_to_the_grid_by_nearest_neighbour(height, width, rows, columns, side):
    """Pixel by pixel: the mask's pixel that holds the centre of the grid's pixel."""
    mask = np.random.default_rng(0).integers(0, 255, (rows, columns))
    grid = Grid(height, width, side)
    found = grid.sample(mask)
    assert found.shape == grid.content
    for i in range(grid.content[0]):
        for j in range(grid.content[1]):
            y = (i + 0.5) * max(height, width) / side / height * rows
            x = (j + 0.5) * max(height, width) / side / width * columns
            if min(y % 1, 1 - y % 1, x % 1, 1 - x % 1) > 1e-6:
                assert found[i, j] == mask[min(int(y), rows - 1), min(int(x), columns - 1)]


def test_a_doubled_mask_gives_the_same_planes_and_a_turned_one_is_refused(tmp_path, labels):
    mask_set(tmp_path / "one", {"ID1/a.png": labels})
    mask_set(tmp_path / "two", {"ID1/a.png": labels.repeat(2, 0).repeat(2, 1)})
    mask_set(tmp_path / "turned", {"ID1/a.png": labels.T.copy()})
    for side in (60, 32):
        one, two = (planes_of(data(tmp_path / name, "masks"), side=side) for name in ("one", "two"))
        np.testing.assert_array_equal(one, two)
    with pytest.raises(DataError, match="the mask is 44 x 60 and its image 60 x 44: other proportions"):
        planes_of(data(tmp_path / "turned", "masks"))


CLASS_WISE = {"masks": {"kind": "classes"}}


@pytest.mark.parametrize(
    ("files", "options", "says"),
    [
        ({"ID1/a.png": np.full(SHAPE, 5, np.uint8)}, {}, "the value 5 is not a class; known: 0 for none, and 1..4"),
        ({"ID1/b.png": np.zeros(SHAPE, np.uint8)}, {}, "ID1/a.png: no mask here, but its image is there"),
        ({"ID1/a.png": np.dstack([np.eye(60, 44, dtype=np.uint8)] + 2 * [np.zeros(SHAPE, np.uint8)])}, {}, "colours"),
        ({"ID1/a/ulne.png": np.zeros(SHAPE, np.uint8)}, CLASS_WISE, "'ulne' is not a class; did you mean ulna?"),
        ({"ID1/a_ulne.png": np.zeros(SHAPE, np.uint8)}, CLASS_WISE, "'ulne' is not a class; did you mean ulna?"),
        ({"ID2/a_ulna.png": np.zeros(SHAPE, np.uint8)}, CLASS_WISE, "no mask here, but its image is there"),
    ],
)  # fmt: skip
def test_masks_that_do_not_fit_are_named(tmp_path, files, options, says):
    mask_set(tmp_path, files)
    with pytest.raises(DataError, match=re.escape(says)):
        planes_of(data(tmp_path, "masks", **options))


def test_a_broken_mask_and_missing_folders_are_named(tmp_path, labels):
    mask_set(tmp_path, {"ID1/a.png": labels})
    path = tmp_path / "train/masks/ID1/a.png"
    for content, fault in (
        (path.read_bytes()[:200], "the PNG is cut off"),
        (b"", "not a"),
        (b"text", "not a readable"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=re.escape(f"{path}: {fault}")):
            planes_of(data(tmp_path, "masks"))
    with pytest.raises(DataError, match=r"nowhere: no such folder; data\.root, data\.masks\.images"):
        train_records(data(tmp_path, "masks", masks={"masks": "nowhere"}))
    with pytest.raises(DataError, match=r"test/images: no such folder; data\.masks\.test names"):
        test_records(data(tmp_path, "masks"))


def test_without_patients_folders_the_config_must_say_so(tmp_path, labels):
    mask_set(tmp_path, {"a.png": labels}, image="a.png")
    with pytest.raises(DataError, match=r"is in no folder that names its patient.*data\.masks\.group=image"):
        train_records(data(tmp_path, "masks"))
    assert train_records(data(tmp_path, "masks", masks={"group": "image"}))[0].group == "a"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layout": "coco", "root": None}, "root: name the data set's folder"),
        ({"layout": "coco", "masks": {}}, "masks: only for data.layout=masks; the layout is coco"),
        (
            {"layout": "masks", "masks": {"values": {"ulne": 1}}},
            "masks.values: 'ulne' is not a class; did you mean ulna?",
        ),
        ({"layout": "masks", "masks": {"values": {"ulna": 1}}}, "masks.values: no value for 'radius'"),
        ({"layout": "masks", "masks": {"values": {"ulna": 1, "radius": 1}}}, "values: two classes have the same"),
        ({"layout": "masks", "masks": {"values": {"ulna": 1}, "kind": "classes"}}, "values: only for kind=labels"),
        ({"layout": "nifti"}, "layout='nifti': input should be 'competition', 'coco' or 'masks'"),
        ({"crop": 96}, "crop: 96 is larger than the image (data.size=64)"),
        ({"crop": 40}, "crop=40: input should be a multiple of 32"),
    ],
)
def test_a_config_that_cannot_work_is_refused(tmp_path, changes, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        validate_as(SegmentData, {"name": "t", "root": tmp_path, "classes": CLASSES, "size": 64} | changes)


# the layouts against each other


@pytest.fixture
def three(tmp_path):
    """The same two images in all three layouts. The masks are the competition's own planes."""
    plain = data(tmp_path / "competition", "competition")
    for i, name in enumerate(("ID1/a", "ID2/b")):
        image_at(tmp_path / f"competition/train/DCM/{name}.png")
        bones = [(c, points + i) for c, points in BONES]
        items = [{"label": CLASSES[c], "points": points.tolist()} for c, points in bones]
        path = tmp_path / f"competition/train/outputs_json/{name}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"annotations": items}))
    for record in train_records(plain):
        stack = unpack(truth(record, plain, grid_of(SHAPE, max(SHAPE)))[:, : SHAPE[1]], len(CLASSES))
        files = {f"{record.group}/{record.image.stem}/{n}.png": m for n, m in zip(CLASSES, stack, strict=True)}
        mask_set(tmp_path / "masks", files, image=f"{record.group}/{record.name}")
    path = coco_file(tmp_path / "coco", [], names=("ID1/a.png", "ID2/b.png"))
    value = json.loads(path.read_text())
    value["annotations"] = [
        {"id": 100 * i + j, "image_id": 10 + i, "category_id": 5 + c, "segmentation": [(p + i + 0.5).ravel().tolist()]}
        for i in range(2)
        for j, (c, p) in enumerate(BONES)
    ]
    path.write_text(json.dumps(value))
    return [plain, data(tmp_path / "masks", "masks", **CLASS_WISE), data(tmp_path / "coco", "coco")]


def test_the_layouts_agree(three):
    """Names, patients and planes. PNGs are the same bits; COCO's polygons differ in the outline alone, which
    belongs to the region in the competition's rule and is halved by pycocotools'."""
    competition, masks, coco = ([(r.name, r.group) for r in train_records(one)] for one in three)
    assert competition == masks == coco == [("a.png", "ID1"), ("b.png", "ID2")]
    for number in range(2):
        plain, png, polygon = (planes_of(one, number=number)[:, :, : SHAPE[1]] for one in three)
        np.testing.assert_array_equal(plain, png)
        for ours, theirs in zip(plain, polygon, strict=True):
            kernel = np.ones((3, 3), np.uint8)
            inner = cv2.erode(ours.astype(np.uint8), kernel, borderValue=1).astype(bool)
            assert not (theirs & ~ours).any()  # the rule that owns the outline holds more
            assert not (inner & ~theirs).any()
            assert theirs.any()


def test_training_runs_on_every_layout(three, tiny, tmp_path):
    from phalanx.cli import main

    options = {"masks": {"data.masks.kind": "classes"}}
    for config in three:
        words = dict(word.split("=", 1) for word in tiny("unet", name=config.layout, runs=tmp_path / "runs", epochs=1))
        words |= {"data.root": str(config.root), "data.layout": config.layout, "data.classes": f"[{','.join(CLASSES)}]"}
        words |= options.get(config.layout, {})
        assert main(["train", *[f"{key}={value}" for key, value in words.items()]]) == 0
        scores = tmp_path / "runs" / config.layout / "fold0" / "oof_score.json"
        assert json.loads(scores.read_text())


def test_quarantine_holds_in_every_layout(three, tmp_path):
    """Also of an image whose truth is missing, where the layout has a file for each."""
    (tmp_path / "competition/train/outputs_json/ID2/b.json").unlink()
    for mask in (tmp_path / "masks/train/masks/ID2/b").iterdir():
        mask.unlink()
    path = tmp_path / "q.txt"
    for config in three:
        write_quarantine(path, {"b.png": "an implant"})
        kept = config.model_copy(update={"quarantine": path})
        assert [record.name for record in kept_records(kept)] == ["a.png"]
        write_quarantine(path, {"c.png": ""})
        with pytest.raises(DataError, match=r"c\.png is not a training image of"):
            kept_records(kept)


@pytest.fixture
def tilted(three):
    """The three sets with the bones of the rotation rule: the first image upright, the second turned."""
    names = ["Ulna", "finger-16", "lunate", "pisi_form"]
    sets = []
    for config in three:
        sets.append(validate_as(SegmentData, config.model_dump() | {"classes": names, "oversample": {"rotated": 3}}))
    root = three[0].root
    low, ends = (14, 48), {"ID1/a": (14, 10), "ID2/b": (40, 30)}
    planes = {}
    for place, end in ends.items():
        bones = [("Ulna", ring(low, (4, 4))), ("finger-16", ring(end, (3, 3)))]
        items = [{"label": name, "points": points.tolist()} for name, points in bones]
        (root / f"train/outputs_json/{place}.json").write_text(json.dumps({"annotations": items}))
        planes[place] = bones
        folder = three[1].root / "train/masks" / place
        for old in folder.iterdir():
            old.unlink()
        for name, points in bones:
            mask = np.zeros(SHAPE, np.uint8)
            cv2.fillPoly(mask, [points.round().astype(np.int32)], 255)
            cv2.imwrite(str(folder / f"{name}.png"), mask)
    path = three[2].root / "train.json"
    value = json.loads(path.read_text())
    value["categories"] = [{"id": 5 + i, "name": name} for i, name in enumerate(names)]
    value["annotations"] = [
        {"id": 9 * i + j, "image_id": 10 + i, "category_id": 5 + j, "segmentation": [(points + 0.5).ravel().tolist()]}
        for i, bones in enumerate(planes.values())
        for j, (_, points) in enumerate(bones)
    ]
    path.write_text(json.dumps(value))
    return sets


def test_rotation_is_measured_in_every_layout(tilted, tmp_path):
    from phalanx.eda.report import explore

    degrees = []
    for config in tilted:
        assert oversampled(train_records(config), config)[0].tolist() == [1, 3]
        told = explore(config, tmp_path / "out" / config.layout, workers=1, progress=False)
        assert "(train, annotations): 1 of 2" in told
        assert "left out: the test set: " in told
        table = (tmp_path / "out" / config.layout / "images.csv").read_text().splitlines()
        degrees.append([float(line.split(",")[table[0].split(",").index("degrees")]) for line in table[1:]])
    np.testing.assert_allclose(degrees, [degrees[0]] * 3, atol=1.5)
