# The images of aicsweep: `controller`, `build` (plans, exports, compiles, merges), `measure` (holds a device).
#
#   docker build --target measure -t aicsweep-measure .
#   docker build --target measure --build-arg BASE_IMAGE=VENDOR-SDK-IMAGE -t aicsweep-measure:qaic .
#   docker build --target build --build-arg TORCH_INDEX=URL .          torch from that index, e.g. without CUDA
#
# A base needs Python 3.11 or newer with venv, and certificate authorities; the vendor's SDK, if any, in
# /opt/qti-aic. An index other than the default is said to pip and uv by their own files, which are mounted
# and leave no trace in the image: --secret id=pip,src=pip.conf --secret id=uv,src=uv.toml.
# What is inside is listed in /opt/aicsweep/sbom.cdx.json (CycloneDX).
ARG BASE_IMAGE=python:3.11-slim-bookworm

# Only mounted, never copied: no image holds an installer. Each is its base, a layer of packages, and a small one
# that is aicsweep: a change of aicsweep makes only that one anew.
FROM ${BASE_IMAGE} AS tools
RUN --mount=type=bind,source=requirements/images.txt,target=/tmp/images.txt \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/tools && \
    /opt/tools/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/images.txt

FROM ${BASE_IMAGE} AS controller-packages
RUN --mount=type=bind,source=requirements,target=/context/requirements \
    --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=secret,id=uv,target=/etc/uv/uv.toml \
    sh /context/requirements/install-packages.sh controller

FROM controller-packages AS controller
RUN --mount=type=bind,source=.,target=/context \
    --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    sh /context/requirements/install-aicsweep.sh
ENV PATH=/opt/aicsweep/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TMPDIR=/tmp \
    PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["aicsweep-controller"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="aicsweep-controller" \
      org.opencontainers.image.description="Turns Sweeps into Jobs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM ${BASE_IMAGE} AS measure-packages
RUN --mount=type=bind,source=requirements,target=/context/requirements \
    --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=secret,id=uv,target=/etc/uv/uv.toml \
    sh /context/requirements/install-packages.sh core

FROM measure-packages AS measure
RUN --mount=type=bind,source=.,target=/context \
    --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    sh /context/requirements/install-aicsweep.sh
ENV PATH=/opt/aicsweep/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TMPDIR=/tmp \
    PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["aicsweep"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="aicsweep-measure" \
      org.opencontainers.image.description="Measures the points of a sweep on a device" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM ${BASE_IMAGE} AS build-packages
ARG TORCH_INDEX=
RUN --mount=type=bind,source=requirements,target=/context/requirements \
    --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=secret,id=uv,target=/etc/uv/uv.toml \
    TORCH_INDEX="${TORCH_INDEX}" sh /context/requirements/install-packages.sh export

FROM build-packages AS build
RUN --mount=type=bind,source=.,target=/context \
    --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    sh /context/requirements/install-aicsweep.sh
ENV PATH=/opt/aicsweep/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TMPDIR=/tmp \
    PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["aicsweep"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="aicsweep-build" \
      org.opencontainers.image.description="Plans, exports, compiles and merges the points of a sweep" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
