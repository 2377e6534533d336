"""A run's maps at other grids, scales and windows against the network called by hand; votes of stored maps alone."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from phalanx.cli import main
from phalanx.config import SlidingWindow
from phalanx.config.words import typed
from phalanx.data import records as layout
from phalanx.data.images import Grid
from phalanx.ensemble.options import InferOptions
from phalanx.errors import ConfigError
from phalanx.predict.map_file import read_map
from phalanx.predict.maps import FLOOR
from phalanx.predict.opening import open_member, open_members
from phalanx.predict.windows import window_starts
from phalanx.runtime.provenance import digest


@pytest.fixture
def picture(tmp_path):
    """One image of 128 x 96 pixels: its record and its pixels."""
    (tmp_path / "pictures").mkdir()
    noise = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (128, 96), np.uint8), (9, 9), 3)
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX))
    (record,) = layout.scan(tmp_path / "pictures")
    return record, cv2.imread(str(record.image), 0)


def fold(runs, name="fpn", **changes):
    return open_member(str(runs / name / "fold0"), runs=runs, device="cpu", changes=changes).folds[0]


def by_network(member, image):
    """Probabilities float32[C, n, n] of an image uint8[n, n]."""
    with torch.no_grad():
        return torch.sigmoid(member.network.predict(torch.from_numpy(image)[None, None]))[0].numpy()


def test_scales_are_predicted_from_the_image_itself_and_meet_on_the_finest(runs, picture):
    record, image = picture
    member = fold(runs, input_size=96, scales=[0.7, 1.0, 1.3])
    assert member.sides == [64, 96, 128]
    (maps,) = member.maps([record], [image])
    slow = np.zeros((len(maps.boxes), 128, 128), np.float32)
    for side in member.sides:
        found = by_network(member, Grid.of(image, side).place(image))
        slow += F.interpolate(torch.from_numpy(found)[None], (128, 128), mode="bilinear", align_corners=False)[
            0
        ].numpy()
    assert maps.side == 128
    np.testing.assert_allclose(
        maps.dense()[:, :120, :90], slow[:, :120, :90] / 3, atol=FLOOR
    )  # beside it the edge fades


@pytest.mark.parametrize(("size", "stride"), [(64, 32), (96, 20), (160, None)])
def test_windows_are_the_network_on_each_of_them_blended(runs, picture, size, stride):
    record, image = picture
    member = fold(runs, input_size=128, window=SlidingWindow(size=size, stride=stride, skip_empty=False), tta=["hflip"])
    (maps,) = member.maps([record], [image])
    placed = np.pad(Grid.of(image, 128).place(image), (0, max(0, size - 128)))
    line = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (size / 8)) ** 2)
    bell, total, weight = np.outer(line, line), np.zeros((len(maps.boxes), *placed.shape)), np.zeros(placed.shape)
    step = stride or size // 2
    for top in window_starts(128, size, step):
        for left in window_starts(96, size, step):
            tile = placed[top : top + size, left : left + size]
            plain, mirrored = by_network(member, tile), by_network(member, tile[:, ::-1].copy())[:, :, ::-1]
            total[:, top : top + size, left : left + size] += bell * (plain + mirrored) / 2
            weight[top : top + size, left : left + size] += bell
    slow = total[:, :128, :96] / weight[:128, :96]
    np.testing.assert_allclose(maps.dense()[:, :128, :96], slow, atol=FLOOR)


def test_windows_without_anything_bright_are_not_predicted(runs, hands):
    record = layout.test_records(hands)[0]
    image = np.zeros((512, 512), np.uint8)
    image[:128, :128] = cv2.imread(str(record.image), 0)
    asked = []
    member = fold(runs, input_size=512, window=SlidingWindow(size=64, stride=64))
    predict = member.network.predict
    member.network.predict = lambda images: (asked.append(len(images)), predict(images))[1]
    (maps,) = member.maps([record], [image])
    assert 4 <= sum(asked) < 20
    assert max(asked) == member.predict.batch
    assert all(box.bottom <= 192 and box.right <= 192 for box in maps.boxes)


def test_a_size_that_a_network_does_not_run_at_is_refused_by_name(runs, monkeypatch):
    from phalanx.models.build import Network

    forward = Network.forward

    def only_64(self, images, traits=None):
        if images.shape[-1] != 64:
            raise RuntimeError("made for 64 pixels")
        return forward(self, images, traits)

    monkeypatch.setattr(Network, "forward", only_64)
    fold(runs)
    for changes, key in (
        ({"input_size": 96}, "predict.input_size and predict.scales"),
        ({"window": SlidingWindow(size=32)}, "predict.window"),
    ):
        with pytest.raises(
            ConfigError, match=f"does not run on .* pixels, as {key} ask for: RuntimeError: made for 64"
        ):
            fold(runs, **changes)


def test_options_of_prediction_are_read_from_words():
    told = {
        "tta": "hflip,rotate",
        "scales": "[0.75,1]",
        "window": "{size:64,stride:32,skip_empty:false}",
        "input_size": "128",
    }
    found = typed(InferOptions, told).changes()
    assert found == {
        "tta": ["hflip", "rotate"], "scales": [0.75, 1.0], "input_size": 128,
        "window": SlidingWindow(size=64, stride=32, skip_empty=False),
    }  # fmt: skip
    assert typed(InferOptions, {"window": "1024"}).window == SlidingWindow(size=1024)
    for key, text, message in (
        ("window", "{size:64,step:3}", "window.step: no such option; did you mean stride"),
        ("window", "30", "multiple of 32"),
        ("window", "{size", "window={size: not a value"),
        ("scales", "9", "scales"),
        ("scales", "[]", "scales"),
        ("tta", "hflop", "hflop"),
        ("input_size", "100", "multiple of 32"),
        ("grid", "128", "grid: no such option; it is now input_size"),
        ("workers", "0", "workers"),
    ):
        with pytest.raises(ConfigError, match=message):
            typed(InferOptions, {key: text}).changes()


def infer(runs, hands, out, *more):
    words = [f"runs={runs}", f"data.root={hands}", "device=cpu", "progress=false", "threshold=0.2", f"out={out}"]
    return main(["infer", *words, *more])


@pytest.fixture(scope="module")
def kept(runs, hands, tmp_path_factory):
    """ProbabilityMaps of two runs, made with all the ways of prediction at once."""
    out = tmp_path_factory.mktemp("kept")
    ways = ["input_size=128", "scales=0.5,1", "window={size:64,stride:32}", "tta=hflip", "maps=true"]
    for name in ("fpn", "unet"):
        assert infer(runs, hands, out / f"{name}.csv", f"experiment={name}", *ways) == 0
    return out


def test_masks_of_stored_maps_at_the_image_s_size_are_those_of_the_run(kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # neither the runs nor the images are here
    for name in ("fpn", "unet"):
        words = [f"members={kept / name}.maps", "mode=soft", "out=again.csv", "runs=nowhere", "progress=false"]
        for more in (["threshold=0.2"], []):  # the maps know by themselves
            assert main(["ensemble", *words, *more]) == 0
            assert (tmp_path / "again.csv").read_bytes() == (kept / f"{name}.csv").read_bytes()


def test_options_that_stored_maps_cannot_follow_are_refused(kept, tmp_path, capsys):
    words = [f"members={kept / 'fpn'}.maps", "mode=soft", "tta=hflip", f"out={tmp_path / 'x.csv'}", "progress=false"]
    assert main(["ensemble", *words]) == 2
    assert "tta: does not change stored maps; predict them again with it" in capsys.readouterr().err


def test_a_vote_does_not_replace_a_member_by_its_own_maps(kept, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(kept / "fpn.maps", "a.maps")
    before = {path.name: path.read_bytes() for path in Path("a.maps").iterdir()}
    words = ["mode=soft", f"members={kept / 'unet.maps'},a.maps", "maps=true", "out=a.csv", "progress=false"]
    assert main(["ensemble", *words, "allow_misaligned=true"]) == 2
    assert "out=a.csv: its maps would replace the member a.maps" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("a.maps").iterdir()} == before


def test_members_predicted_before_a_run_was_trained_anew_are_told_of(runs, hands, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs / "unet", "runs/unet")
    assert infer("runs", hands, "a.csv", "experiment=unet", "maps=true") == 0
    votes = (["mode=soft", "members=a.maps"], ["mode=hard", "members=a.csv"])
    for told in (False, True):
        for vote in votes:
            assert main(["ensemble", *vote, "out=v.csv", "progress=false"]) == 0
            found = capsys.readouterr().out
            assert ("predicted with other weights than runs/unet/fold0 now has" in found) is told
        for kind in ("final", "best", "last"):
            shutil.rmtree(f"runs/unet/fold0/{kind}")
            shutil.copytree(f"runs/unet/fold1/{kind}", f"runs/unet/fold0/{kind}")


def seal(path, about):
    """Writes a maps.json of other content, with its digest."""
    del about["digest"]
    path.write_text(json.dumps(about | {"digest": digest(about)}))
    about["digest"] = ""


def test_members_of_other_thresholds_are_told_of(kept, tmp_path, capsys):
    shutil.copytree(kept / "unet.maps", tmp_path / "copy.maps")
    about = json.loads((tmp_path / "copy.maps/maps.json").read_text())
    seal(tmp_path / "copy.maps/maps.json", about | {"threshold": 0.4})
    words = [
        "mode=soft",
        f"members={kept / 'fpn.maps'},{tmp_path / 'copy.maps'}",
        "progress=false",
        "allow_misaligned=true",
    ]
    assert main(["ensemble", *words, f"out={tmp_path / 'a.csv'}"]) == 0
    assert "copy.maps 0.4); voted at 0.2; see threshold=" in capsys.readouterr().out
    assert main(["ensemble", *words, f"out={tmp_path / 'b.csv'}", "threshold=0.2"]) == 0
    assert "thresholds differ" not in capsys.readouterr().out
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_two_runs_do_not_share_a_file_and_no_folder_hides_a_run(runs, hands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [f"data.root={hands}", f"runs={runs}", "device=cpu", "progress=false"]
    assert main(["infer", f"experiment={runs}/fpn/fold0,{runs}/unet/fold0", *words]) == 2
    assert "two of them are written to submissions/fold0.csv" in capsys.readouterr().err
    (tmp_path / "unet").mkdir()
    assert main(["infer", "experiment=unet", *words]) == 0


def test_a_vote_of_stored_maps_needs_no_images_and_refuses_other_ones(kept, tmp_path, capsys):
    copy = tmp_path / "copy.maps"
    shutil.copytree(kept / "unet.maps", copy)
    words = ["mode=soft", "threshold=0.2", f"out={tmp_path / 'x.csv'}", "progress=false"]
    assert main(["ensemble", f"members={kept / 'fpn'}.maps,{copy}", *words]) == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["sizes"] == json.loads((kept / "fpn.json").read_text())["sizes"]
    about = json.loads((copy / "maps.json").read_text())
    lost = about["sizes"].popitem()[0]
    seal(copy / "maps.json", about)
    assert main(["ensemble", f"members={kept / 'fpn'}.maps,{copy}", *words]) == 2
    assert f"are not of the same images; {lost} is in only one of them" in capsys.readouterr().err
    about["sizes"][lost] = [9, 9]
    seal(copy / "maps.json", about)
    assert main(["ensemble", f"members={kept / 'fpn'}.maps,{copy}", *words]) == 2
    assert f"copy.maps: has {lost} in another size than" in capsys.readouterr().err


def test_maps_and_runs_vote_together(kept, runs, hands, tmp_path):
    common = [f"runs={runs}", f"data.root={hands}", "device=cpu", "progress=false", "threshold=0.2", "mode=soft"]
    assert (
        main(["ensemble", f"members={kept / 'unet'}.maps,fpn", *common, f"out={tmp_path / 'x.csv'}", "maps=true"]) == 0
    )
    for path in (tmp_path / "x.maps").glob("*.npz"):
        assert read_map(path).maps.side == 128  # the finer of the two
        assert len(read_map(path).run_hashes) == 4


def test_out_of_fold_maps_are_those_of_the_out_of_fold_masks(tiny, tmp_path, monkeypatch):
    words = tiny("unet", name="kept", runs=tmp_path, epochs=2, predict__oof_prob="true", predict__threshold=0.1)
    assert main(["train", *words]) == 0
    place = tmp_path / "kept" / "fold0"
    names = set(json.loads((place / "oof.json").read_text())["sizes"])
    assert {path.name.removesuffix(".npz") for path in (place / "oof_prob").glob("*.npz")} == names
    words = [f"members={place / 'oof_prob'}", "mode=soft", "threshold=0.1", f"out={tmp_path / 'again.csv'}"]
    assert main(["ensemble", *words, "progress=false"]) == 0
    found, expected = ((path).read_text().splitlines() for path in (tmp_path / "again.csv", place / "oof.csv"))
    assert [line.rpartition(",")[0] for line in found] == [line.rpartition(",")[0] for line in expected]


def test_out_of_fold_maps_are_made_of_a_finished_run_and_made_again(runs, tiny, tmp_path, capsys):
    """Asked for later, in part gone, or damaged and deleted: the same bytes, without training."""
    shutil.copytree(runs / "unet", tmp_path / "unet")
    place = tmp_path / "unet" / "fold0"
    final = (place / "final/weights.safetensors").stat().st_mtime_ns
    words = ["train", *tiny("unet", name="unet", runs=tmp_path, predict__oof_prob="true")]

    def trained(said):
        assert main(words) == 0
        assert said in capsys.readouterr().out
        assert (place / "final/weights.safetensors").stat().st_mtime_ns == final
        return {path.name: path.read_bytes() for path in (place / "oof_prob").iterdir()}

    maps = trained("was finished, but oof_prob/maps.json is missing; made again")
    assert len(maps) == 1 + len(json.loads((place / "oof.json").read_text())["sizes"])
    assert trained("fold0: finished") == maps
    first = min(name for name in maps if name.endswith(".npz"))
    (place / "oof_prob" / first).unlink()
    assert trained(f"was finished, but oof_prob/{first} is missing; made again") == maps
    (place / "oof.csv").unlink()
    assert trained("was finished, but oof.csv is missing; made again") == maps
    shutil.rmtree(place / "oof_prob")
    assert trained("was finished, but oof_prob/maps.json is missing; made again") == maps


def test_processes_share_the_cores_however_often_members_are_opened(runs, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    before = torch.get_num_threads()
    try:
        for _ in range(2):
            open_members([str(runs / "unet")], sharing=2, runs=runs)
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
