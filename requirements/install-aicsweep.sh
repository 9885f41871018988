#!/bin/sh
# Run by the Dockerfile, as root, in an image with the packages: add aicsweep itself to /opt/aicsweep, and the list
# of all that is there.
set -eu
context=/context tools=/opt/tools/bin there=/opt/aicsweep
# Setuptools writes beside the sources.
source=$(mktemp -d)
for part in LICENSE README.md pyproject.toml runner k8s; do cp -r "$context/$part" "$source/"; done
"$tools/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w "$source/dist" "$source"
# Byte code is written now: the root file system is read-only later.
"$tools/uv" pip install --quiet --no-cache --offline --no-deps --python "$there/bin/python" --link-mode copy \
  "$source"/dist/*.whl
"$there/bin/python" -m compileall -q "$there"/lib/python3*/site-packages/runner "$there"/lib/python3*/site-packages/k8s
rm -rf "$source"
"$tools/cyclonedx-py" environment --output-reproducible --of JSON -o "$there/sbom.cdx.json" "$there"
if [ -d /sbom ]; then cp "$there/sbom.cdx.json" /sbom/; fi
