# As if the base had held the vendor's SDK: /opt/qti-aic holds EMULATED tools, which measure nothing.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
USER 0:0
COPY emulated_sdk /opt/emulated/emulated_sdk
COPY nodes/emulated_tool.py /opt/emulated/tool.py
RUN mkdir -p /opt/qti-aic/exec /opt/qti-aic/tools /opt/qti-aic/EMULATED /opt/qti-aic/versions && \
    chmod 755 /opt/emulated/tool.py && \
    ln -s /opt/emulated/tool.py /opt/qti-aic/exec/qaic-compile && \
    ln -s /opt/emulated/tool.py /opt/qti-aic/exec/qaic-runner && \
    ln -s /opt/emulated/tool.py /opt/qti-aic/tools/qaic-util && \
    python3 -c "import sys, pathlib, shutil; sys.path.append('/opt/emulated'); import emulated_sdk; \
emulated_sdk.install(pathlib.Path('/tmp/e')); shutil.copytree('/tmp/e/versions', '/opt/qti-aic/versions', dirs_exist_ok=True)" && \
    rm -rf /tmp/e
# As long as a made-up measurement takes: faults must find it under way.
ENV AICSWEEP_FAKE='{"sleep_s": 2}'
USER 65532:65532
