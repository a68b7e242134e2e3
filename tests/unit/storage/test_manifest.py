import json
import multiprocessing

import pytest

from roboao_assets.storage.manifest import (
    Manifest,
    ManifestError,
    is_partition_key,
    read_manifest,
    update_manifest,
)

A = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
B = "24_HD1_VIC_Si_o_20160925_030000.000000"
C = "1.5_X_VIC_Si_o_20160926_020000.5"


def test_a_missing_file_is_an_empty_manifest(tmp_path):
    assert read_manifest(tmp_path / "manifest.json") == Manifest()


def test_observations_are_in_time_order_and_nights_ascending(tmp_path):
    path = tmp_path / "archive" / "manifest.json"
    written = update_manifest(path, {"20160926": [C], "20160925": [A, B]})
    assert list(written.nights) == ["20160925", "20160926"]
    assert written.nights["20160925"] == (B, A)
    assert read_manifest(path) == written
    assert list(written.night_by_observation) == [B, A, C]
    assert written.night_by_observation[C] == "20160926"


def test_nothing_leaves_it_and_new_observations_find_their_place(tmp_path):
    path = tmp_path / "manifest.json"
    update_manifest(path, {"20160925": [A]})
    assert update_manifest(path, {"20160925": [B]}).nights == {"20160925": (B, A)}
    assert update_manifest(path, {"20160926": []}).nights == {"20160925": (B, A), "20160926": ()}


def test_an_id_belongs_to_one_night(tmp_path):
    path = tmp_path / "manifest.json"
    update_manifest(path, {"20160925": [A]})
    again = update_manifest(path, {"20160901": [A], "20160926": [A, C]})
    assert again.nights == {"20160901": (), "20160925": (A,), "20160926": (C,)}
    assert Manifest().with_nights({"20160902": [A], "20160901": [A]}).nights["20160902"] == ()


def test_an_unchanged_manifest_is_not_written_again(tmp_path):
    path = tmp_path / "manifest.json"
    update_manifest(path, {"20160925": [A, B]})
    before = path.stat().st_ino
    update_manifest(path, {"20160925": [B]})
    assert path.stat().st_ino == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2, "nights": {}}', '{"format": 1, "nights": {"a": 3}}']
)
def test_something_else_in_the_file_is_refused_and_left_alone(tmp_path, text):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match=r"manifest\.json is no manifest"):
        update_manifest(path, {"20160925": [A]})
    assert path.read_text() == text


def _add_night(path, night):
    for n in range(5):
        update_manifest(path, {night: [f"1_s{n}_VIC_Si_o_{night}_00000{n}"]})


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "manifest.json"
    nights = [f"2016010{n}" for n in range(1, 5)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add_night, args=(path, night)) for night in nights]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert {k: len(v) for k, v in read_manifest(path).nights.items()} == dict.fromkeys(nights, 5)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".partial")] == []
    assert json.loads(path.read_text())["format"] == 1


def test_partition_keys():
    assert is_partition_key(A)
    assert not is_partition_key("1_a...b_VIC_Si_o_20160925_000000")
    assert not is_partition_key("1_a\tb")
    assert not is_partition_key("")
