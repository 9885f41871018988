# The S3 server of the chart's `store.dev`.
FROM scratch
COPY weed /usr/bin/weed
ENV PATH=/usr/bin
USER 65532:65532
