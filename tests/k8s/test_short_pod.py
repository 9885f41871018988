"""A pod that is made to look, and goes away."""

from __future__ import annotations

from typing import Any

from k8s import short_pod
from k8s.access import Access
from k8s.resources import PLUGIN_CALLS
from tests.k8s.standin import api_of, standing_in


async def test_one_that_no_container_of_began_says_why_and_goes_away() -> None:
    refused = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no device left"}
    pod: dict[str, Any] = {"metadata": {"namespace": "a", "name": "probe"}, "spec": {}, "status": refused}
    async with standing_in() as server, api_of(server, calls=PLUGIN_CALLS) as api:
        ended = await short_pod.run(Access(api, "a"), pod, 5, lambda text: None)
        assert not [at for at in server.objects if at[0] == "pods"]
    assert (ended.phase, ended.log) == ("Failed", "")
    assert ended.waited_for == "UnexpectedAdmissionError: no device left"
