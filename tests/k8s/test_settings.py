"""Settings from the environment."""

from __future__ import annotations

import json

import pytest

from k8s.settings import Settings, read_settings
from runner.errors import BadInput
from runner.pod_settings import PodResources, Pods

IMAGES = {"AICSWEEP_BUILD_IMAGE": "registry/build:1", "AICSWEEP_MEASURE_IMAGE": "registry/measure:1"}


def problems(**environment: str) -> list[str]:
    with pytest.raises(BadInput) as caught:
        read_settings({**IMAGES, **environment})
    return [problem.path for problem in caught.value.problems]


def test_images_are_all_that_must_be_said() -> None:
    settings = read_settings({**IMAGES, "HOME": "/root"})
    assert settings == Settings(build_image="registry/build:1", measure_image="registry/measure:1")
    assert settings.namespaces == ()


def test_what_is_said_is_taken() -> None:
    settings = read_settings(
        {
            **IMAGES,
            "AICSWEEP_NAMESPACES": "team-a",
            "AICSWEEP_STORE": "s3://bench/aicsweep/",
            "AICSWEEP_STORE_SECRET": "s3",
            "AICSWEEP_WORKERS": "3",
            "AICSWEEP_LISTEN": "[::1]:80",
            "KUBECONFIG": "/etc/kubeconfig",
        }
    )
    assert (settings.namespaces, settings.workers, settings.kubeconfig) == (("team-a",), 3, "/etc/kubeconfig")
    defaults = settings.defaults()
    assert (defaults.store, defaults.secret_name) == ("s3://bench/aicsweep", "s3")
    assert (defaults.build_image, defaults.measure_image) == ("registry/build:1", "registry/measure:1")
    assert defaults.cluster == settings.cluster


def test_all_problems_at_once_under_the_variables_names() -> None:
    with pytest.raises(BadInput) as caught:
        read_settings({"AICSWEEP_BUILD_IMAGE": "b", "AICSWEEP_WORKERS": "many", "AICSWEEP_STOER": "s3://x"})
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "AICSWEEP_MEASURE_IMAGE: is not set" in text
    assert "AICSWEEP_WORKERS" in text
    assert "AICSWEEP_STOER: is not a setting" in text
    assert "did you mean AICSWEEP_STORE?" in text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_PROXY", "proxy:3128"),
        ("CLUSTER", "../other"),
        ("SILENCE_S", "0"),
        ("SILENCE_S", "nan"),
        ("SILENCE_S", "inf"),
        ("LEASE_S", "-1"),
        ("WORKERS", "0"),
        ("LISTEN", "8080"),
        ("LISTEN", "host:port"),
        ("LOG_LEVEL", "loud"),
        ("IMAGE_PULL_POLICY", "Sometimes"),
        ("BUILD_IMAGE", ""),
    ],
)
def test_what_can_not_be_used_is_refused(variable: str, value: str) -> None:
    assert problems(**{f"AICSWEEP_{variable}": value}) == [f"AICSWEEP_{variable}"]


def test_namespaces_are_a_list() -> None:
    assert read_settings({**IMAGES, "AICSWEEP_NAMESPACES": "team-a, team-b"}).namespaces == (
        "team-a",
        "team-b",
    )
    assert problems(AICSWEEP_NAMESPACES="team-a,Team B") == ["AICSWEEP_NAMESPACES.1"]


def test_what_pods_inherit_is_what_a_sweep_may_say_of_them() -> None:
    pods = {"deviceGroup": 1001, "build": {"cpu": 8}}
    assert read_settings({**IMAGES, "AICSWEEP_PODS": json.dumps(pods)}).defaults().pods == Pods(
        device_group=1001, build=PodResources(cpu=8)
    )
    assert problems(AICSWEEP_PODS="{") == ["AICSWEEP_PODS"]
    assert problems(AICSWEEP_PODS='{"deviceGroup": -1, "build": {"gpu": 1}}') == [
        "AICSWEEP_PODS.build.gpu",
        "AICSWEEP_PODS.deviceGroup",
    ]


def test_an_image_has_one_place() -> None:
    with pytest.raises(BadInput, match="AICSWEEP_MEASURE_IMAGE"):
        read_settings({**IMAGES, "AICSWEEP_PODS": '{"measureImage": "other"}'})


def test_a_proxy_is_told_in_both_spellings_and_without_a_password() -> None:
    proxies = {"AICSWEEP_HTTPS_PROXY": "http://proxy:3128", "AICSWEEP_NO_PROXY": ".svc,10.0.0.0/8"}
    assert read_settings({**IMAGES, **proxies}).defaults().proxies == {
        "HTTPS_PROXY": "http://proxy:3128",
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": ".svc,10.0.0.0/8",
        "no_proxy": ".svc,10.0.0.0/8",
    }
    assert problems(AICSWEEP_HTTP_PROXY="http://me:secret@proxy:3128") == ["AICSWEEP_HTTP_PROXY"]


def test_what_kubernetes_says_of_services_is_no_setting() -> None:
    """A Service called aicsweep-listen must not become the address to listen at, one called aicsweep no error."""
    links = {
        "AICSWEEP_SERVICE_HOST": "10.96.0.7",
        "AICSWEEP_SERVICE_PORT": "80",
        "AICSWEEP_SERVICE_PORT_HTTP": "80",
        "AICSWEEP_PORT": "tcp://10.96.0.7:80",
        "AICSWEEP_PORT_80_TCP": "tcp://10.96.0.7:80",
        "AICSWEEP_PORT_80_TCP_ADDR": "10.96.0.7",
        "AICSWEEP_LISTEN_PORT": "tcp://10.96.0.7:80",
        "AICSWEEP_LISTEN_SERVICE_HOST": "10.96.0.7",
    }
    assert read_settings({**IMAGES, **links}) == read_settings(IMAGES)


def test_no_setting_has_a_name_that_a_service_could_set() -> None:
    for name in Settings.model_fields:
        assert not name.endswith(("_port", "_host", "_tcp", "_udp")), name


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_settings(IMAGES).workers = 2  # type: ignore[misc]
