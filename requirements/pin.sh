#!/usr/bin/env bash
# Resolve pyproject.toml once, all together (boto3 and kubernetes disagree on dateutil when resolved
# apart), then cut the result into files by extra. Hashes, but no index addresses. What is pinned stays
# as it is unless UPGRADE=1.
set -euo pipefail
HERE=$(dirname "$0")
uv=$(realpath "$1")
cd "$HERE"
compile() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"; }
if [ "${UPGRADE:-}" != 1 ]; then cp dev.txt all.txt; fi
compile --all-extras --group ../pyproject.toml:dev --group ../pyproject.toml:bootstrap ../pyproject.toml -o all.txt
compile -c all.txt ../pyproject.toml -o core.txt
compile -c all.txt --extra export ../pyproject.toml -o export.txt
compile -c all.txt --group ../pyproject.toml:bootstrap -o uv.txt
compile -c all.txt --extra controller ../pyproject.toml -o controller.txt
compile -c all.txt --group ../pyproject.toml:images -o images.txt
grep -oE '^(torch|torchvision|triton|cuda-[a-z0-9-]+|nvidia-[a-z0-9-]+)==' export.txt | tr -d = | sed 's/^/--no-emit-package /' |
  xargs "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
    -c all.txt --extra export ../pyproject.toml -o export-without-torch.txt
mv all.txt dev.txt
