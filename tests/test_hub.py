"""A local server stands for the hub; the hub's own client asks it."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path.startswith("/api/models/microsoft/resnet-50")
        body = json.dumps({"id": "microsoft/resnet-50", "sha": COMMIT} if known else {}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def pinned(source: str, cache: Path, endpoint: str) -> str:
    # A process of its own: the hub's client reads its environment when it is imported.
    code = f"from runner.hub import pinned; print(pinned({source!r}))"
    environment = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "PATH": "",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_moving_revision_becomes_the_commit_the_hub_names(hub, tmp_path):
    assert pinned("hf:microsoft/resnet-50@main", tmp_path, hub) == f"hf:microsoft/resnet-50@{COMMIT}"


def test_a_commit_stays_and_an_unknown_model_is_left_for_the_export_to_say(hub, tmp_path):
    other = COMMIT[::-1]
    assert pinned(f"hf:microsoft/resnet-50@{other}", tmp_path, hub) == f"hf:microsoft/resnet-50@{other}"
    assert pinned("hf:nobody/nothing@main", tmp_path, hub) == "hf:nobody/nothing@main"


def test_without_the_hub_the_local_cache_knows(tmp_path):
    refs = tmp_path / "hub" / "models--microsoft--resnet-50" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    nobody = "http://127.0.0.1:9"
    assert pinned("hf:microsoft/resnet-50@main", tmp_path, nobody) == f"hf:microsoft/resnet-50@{COMMIT}"
    assert pinned("hf:microsoft/resnet-152@main", tmp_path, nobody) == "hf:microsoft/resnet-152@main"
