"""URLs of a table that anybody may read."""

from __future__ import annotations

import dataclasses
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from runner import cli, engine
from runner.errors import BadInput
from runner.store import open_store
from tests.samples import place, sweep


def test_links_to_the_table_on_s3_can_be_read_by_anybody(
    s3_bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = open_store(f"s3://{s3_bucket}/runs")
    engine.run(dataclasses.replace(place(tmp_path, sweep(grid={"cores": [1, 2]})), root=store))
    cli.cli(["table", store.url, "--link=30m"], standalone_mode=False)
    csv, parquet = capsys.readouterr().out.split()
    # SigV4, which all regions and keys take; boto3's own choice is SigV2 here.
    assert "X-Amz-Signature=" in csv
    assert b"resnet50" in urllib.request.urlopen(csv).read()
    assert urllib.request.urlopen(parquet).read().startswith(b"PAR1")


def test_a_folder_has_no_links(tmp_path: Path) -> None:
    engine.run(place(tmp_path, sweep(grid={"cores": [1]})))
    with pytest.raises(BadInput, match="has no links"):
        cli.cli(["table", str(tmp_path / "store"), "--link"], standalone_mode=False)


@pytest.mark.parametrize("text", ["8d", "0h", "1", "soon"])
def test_a_link_lasts_at_most_seven_days(text: str, tmp_path: Path) -> None:
    """S3 signs for no longer."""
    found = CliRunner().invoke(cli.cli, ["table", str(tmp_path), f"--link={text}"])
    assert (found.exit_code, "Invalid value for '--link'" in found.output) == (2, True)
