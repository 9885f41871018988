import pytest

from runner import catalogue, lut


def test_the_53_names_each_with_two_rows_and_their_image_size():
    assert len(catalogue.MODELS) == 53
    for name, model in catalogue.MODELS.items():
        for objective in ("best-throughput", "best-latency"):
            assert lut.shipped()[name, objective].image_size == model.image_size


def test_a_hyphen_is_the_hub_and_everything_else_torchvision():
    assert catalogue.MODELS["resnet-50"].source == "hf:microsoft/resnet-50@main"
    assert catalogue.MODELS["resnet50"].source == "torchvision:resnet50"


def test_references():
    assert catalogue.resolve("torchvision:resnet50")[0].name == "resnet50"
    assert catalogue.resolve("hf:microsoft/resnet-50")[0].name == "resnet-50"
    assert catalogue.resolve("hf:a/b@v1")[0].source == "hf:a/b@v1"
    assert len(catalogue.resolve("all")) == 53
    assert catalogue.resolve("onnx:/x/y.onnx")[0].kind == "onnx"


@pytest.mark.parametrize("reference", ["resnet5O", "hf:nobody", "torchvision:../x", "onnx:", "ftp:x", ""])
def test_what_is_no_model(reference):
    with pytest.raises(LookupError):
        catalogue.resolve(reference)


def test_nearest_names_are_offered():
    with pytest.raises(LookupError, match="resnet50"):
        catalogue.resolve("resnet5O")


def test_sizes():
    assert "224 pixels only" in catalogue.size_problem(catalogue.MODELS["vit_b_16"], 256)
    assert "at least 75" in catalogue.size_problem(catalogue.MODELS["inception_v3"], 64)
    assert catalogue.size_problem(catalogue.MODELS["resnet50"], 256) == ""
