"""What needs no buildah."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nodes import images


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
