import pytest

from runner import lut
from runner.errors import BadInput

HEAD = "MODEL_NAME,TASK,BATCH_SIZE,IMAGE_SIZE,CORES,INSTANCES,OLS,MOS,EXTRA,SET_SIZE,PRECISION,OBJECTIVE,THPS,LATENCY\n"


def test_the_shipped_table():
    table = lut.shipped()
    assert len(table) == 109
    row = table["resnet50", "best-throughput"]
    assert (row.batch_size, row.cores, row.instances, row.mos) == (13, 7, 2, "1")
    assert row.throughput_images_s == 7623
    assert row.latency_p95_s == pytest.approx(0.0103)
    assert table["resnet-50", "best-latency"].mos == "1,7"
    assert table["resnet-50", "best-latency"].throughput_images_s is None
    assert table["efficientnet_b3", "best-throughput"].extra is None


def test_every_mistake_of_a_table_is_named_with_its_line(tmp_path):
    path = tmp_path / "lut.csv"
    path.write_text(HEAD + "a,x,one,224,1,1,1,,,1,fp16,balanced,,\na,x,1,224,0,1,1,,,1,fp16,best-latency,,\n")
    with pytest.raises(BadInput) as caught:
        lut.read(path)
    assert [p.path.rpartition(":")[2] for p in caught.value.problems] == ["2", "3"]
    path.write_text(
        HEAD
        + "a,x,inf,224,1,1,1,,,1,fp16,balanced,nan,\n"
        + 'b,x,1,224,1,1,1,"1,0",,1,fp16,balanced,,\n'
        + "c,x,1,224,1,1,1,,-flag='open,1,fp16,balanced,,\n"
    )
    with pytest.raises(BadInput) as caught:
        lut.read(path)
    assert [(p.path.rpartition(":")[2], p.message.split()[0]) for p in caught.value.problems] == [
        ("2", "BATCH_SIZE"), ("2", "THPS"), ("3", "MOS"), ("4", "EXTRA")
    ]  # fmt: skip
    path.write_text(HEAD + "a" * 200_000 + ",\n")
    with pytest.raises(BadInput, match="can't be read: field larger"):
        lut.read(path)
    path.write_text("x,y\n1,2\n")
    with pytest.raises(BadInput, match="columns missing"):
        lut.read(path)
    with pytest.raises(BadInput, match="can't be read"):
        lut.read(tmp_path / "none.csv")
