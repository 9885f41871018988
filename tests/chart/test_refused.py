"""Values that can not be used are refused with words, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.helm import Helm, HelmFailed

BAD: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 2}, "additional properties 'replicas' not allowed"),
    ({"store": {"ulr": "s3://x"}}, "at '/store': additional properties 'ulr' not allowed"),
    ({"store": {"url": "http://x/y"}}, "at '/store/url'"),
    (
        {"store": {"url": "s3://x", "dev": {"enabled": True}}},
        "store.url: must be empty with store.dev.enabled",
    ),
    ({"store": {"secretName": "s3"}}, "store.secretName: is of no use without store.url"),
    (
        {"store": {"secretName": "s3", "dev": {"enabled": True}}},
        "its Secret is store.dev.secretName",
    ),
    ({"store": {"dev": {"enabled": "yes"}}}, "at '/store/dev/enabled': got string, want boolean"),
    ({"store": {"dev": {"size": "big"}}}, "at '/store/dev/size'"),
    ({"store": {"dev": {"bucket": "A"}}}, "at '/store/dev/bucket'"),
    ({"cluster": "../other"}, "at '/cluster'"),
    ({"watchNamespaces": ["Team A"]}, "at '/watchNamespaces/0'"),
    ({"watchNamespaces": ["a", "a"]}, "items at 0 and 1 are equal"),
    ({"watchNamespaces": "a"}, "at '/watchNamespaces': got string, want array"),
    ({"images": {"build": "aicsweep-build:1"}}, "at '/images/build': got string, want object"),
    ({"images": {"build": {"digest": "sha256:1"}}}, "at '/images/build/digest'"),
    ({"images": {"build": {"repository": "Build Image"}}}, "at '/images/build/repository'"),
    ({"images": {"build": {"tag": "a b"}}}, "at '/images/build/tag'"),
    ({"images": {"pullPolicy": "Sometimes"}}, "at '/images/pullPolicy': value must be one of"),
    ({"pods": {"buildImage": "x"}}, "at '/pods': additional properties 'buildImage' not allowed"),
    ({"pods": {"deviceGruop": 1}}, "additional properties 'deviceGruop' not allowed"),
    ({"pods": {"deviceGroup": -1}}, "at '/pods/deviceGroup': minimum"),
    ({"pods": {"measure": {"gpu": 1}}}, "at '/pods/measure': additional properties 'gpu' not allowed"),
    ({"pods": {"tolerations": [{"key": "a", "operator": "In"}]}}, "at '/pods/tolerations/0/operator'"),
    ({"pods": {"shmSize": "lots"}}, "at '/pods/shmSize'"),
    ({"proxy": {"http": "http://me:secret@proxy:1"}}, "at '/proxy/http'"),
    ({"controller": {"replicas": 0}}, "at '/controller/replicas': minimum"),
    ({"controller": {"settings": {"workres": 1}}}, "additional properties 'workres' not allowed"),
    ({"controller": {"settings": {"workers": 1000}}}, "at '/controller/settings/workers': maximum"),
    ({"controller": {"settings": {"namespaces": "a"}}}, "additional properties 'namespaces' not allowed"),
    ({"controller": {"nodeSelector": {"pool": 1}}}, "at '/controller/nodeSelector/pool'"),
    (
        {"controller": {"resources": {"limits": {"memory": "a lot"}}}},
        "at '/controller/resources/limits/memory'",
    ),
    ({"controller": {"securityContext": {"runAsUser": 0}}}, "'securityContext' not allowed"),
    ({"serviceAccount": {"create": False}}, "serviceAccount.name: is needed"),
    ({"networkPolicy": {"blockedCidrs": ["everything"]}}, "at '/networkPolicy/blockedCidrs/0'"),
    ({"networkPolicy": {"apiServerPorts": []}}, "at '/networkPolicy/apiServerPorts'"),
    ({"metrics": {"serviceMonitor": {"interval": "often"}}}, "at '/metrics/serviceMonitor/interval'"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=[message for _, message in BAD])
def test_what_can_not_be_used_is_refused(helm: Helm, given: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmFailed) as caught:
        helm.render(given)
    assert message in str(caught.value)


def test_all_problems_at_once(helm: Helm) -> None:
    with pytest.raises(HelmFailed) as caught:
        helm.render({"store": {"secretName": "a"}, "serviceAccount": {"create": False}})
    assert "store.secretName" in str(caught.value)
    assert "serviceAccount.name" in str(caught.value)
