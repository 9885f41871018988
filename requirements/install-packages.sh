#!/bin/sh
# Run by the Dockerfile, as root, in the image: install requirements/$1.txt into /opt/aicsweep and name the user.
# Leaves nothing else behind.
set -eu
context=/context tools=/opt/tools/bin there=/opt/aicsweep
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "the base image needs Python 3.11 or newer")'
python3 -m venv --without-pip "$there"
# uv brings authorities of its own; the base's are those that its owner trusts.
SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
export SSL_CERT_FILE
# A cache that is mounted, or none: it would stay in the image.
if [ -d /uv-cache ]; then export UV_CACHE_DIR=/uv-cache; else export UV_NO_CACHE=1; fi
# Byte code is written now: the root file system is read-only later.
install() {
  "$tools/uv" pip install --quiet --python "$there/bin/python" --link-mode copy --compile-bytecode "$@"
}
wanted=$1
if [ -n "${TORCH_INDEX:-}" ]; then
  torch=$(sed -nE 's/^((torch|torchvision)==[^ ]+).*/\1/p' "$context/requirements/export.txt")
  # shellcheck disable=SC2086
  install --index-url "$TORCH_INDEX" $torch
  wanted=export-without-torch
fi
install --require-hashes -r "$context/requirements/$wanted.txt"
# torch asks for the user's name.
grep -q '^[^:]*:[^:]*:65532:' /etc/passwd || echo 'aicsweep:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd
grep -q '^[^:]*:[^:]*:65532:' /etc/group || echo 'aicsweep:x:65532:' >> /etc/group
