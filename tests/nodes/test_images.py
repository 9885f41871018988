"""What needs no buildah."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.nodes import buildah, images


@pytest.mark.parametrize("target", images.TARGETS)
def test_a_change_of_aicsweep_makes_only_the_last_layer_anew(target):
    image = images.product(target)
    assert {"runner", "k8s"} <= set(image.files)
    for below in (image.base, *image.stages.values()):
        assert all(Path(part).parts[0] == "requirements" for part in below.files)


def test_a_changed_file_and_what_is_below_change_the_name(tmp_path):
    (tmp_path / "file").write_text("one")
    image = images.Image("name", tmp_path, ("file",))
    above = images.Image("above", tmp_path, base=image)
    before = image.reference, above.reference
    (tmp_path / "file").write_text("two")
    assert not {image.reference, above.reference} & set(before)


def test_old_images_go_but_none_on_which_nodes_stand(tmp_path, monkeypatch):
    """Also nodes of another checkout, which shares the storage."""
    listed = tmp_path / f"{buildah.STORAGE.name}/x-images/images.json"
    listed.parent.mkdir(parents=True)
    found = [{"created": f"2026-01-0{day}", "names": [f"localhost/one:{day}"]} for day in (1, 2, 3)]
    listed.write_text(json.dumps(found))
    commands = []
    monkeypatch.setattr(buildah, "FOLDER", tmp_path)
    monkeypatch.setattr(buildah, "STORAGE", tmp_path / buildah.STORAGE.name)
    monkeypatch.setattr(buildah, "_DRIVER", "x")
    monkeypatch.setattr(buildah, "_output", lambda *command: commands.append(command))
    with buildah.in_use():
        with buildah.in_use():
            buildah.prune("one")
        buildah.prune("one")
    assert commands == []
    buildah.prune("one")
    assert commands == [("rmi", "localhost/one:1")]
