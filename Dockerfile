# syntax=docker/dockerfile:1
# The service without torch. CPU by default:
#   docker build -t clsp-service .
# On a GPU (CUDA 12 and cuDNN 9 come from the base image):
#   docker build -t clsp-service:gpu --build-arg EXTRA=gpu --build-arg BASE=nvidia/cuda:12.6.3-cudnn-runtime-ubuntu24.04 .
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
# The CUDA images are plain Ubuntu; the Python images have all of this. Versions are the base image's to pin.
# hadolint ignore=DL3008
RUN command -v pip >/dev/null || (apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv python3-pip \
    && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/clsp
ENV PATH=/opt/clsp/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ARG EXTRA=cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY service service
COPY clsp_client clsp_client
COPY index index
COPY model_export model_export
COPY training training
# hadolint ignore=DL3013
RUN pip install -c constraints.txt ".[${EXTRA}]"

FROM ${BASE}
# hadolint ignore=DL3008
RUN command -v python3 >/dev/null || (apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*)
# A number, so that Kubernetes' runAsNonRoot can tell.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin clsp \
    && install -d -o 10001 -g 10001 /data /media
COPY --from=build /opt/clsp /opt/clsp
COPY models/clsp-small /models/clsp-small
ENV PATH=/opt/clsp/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CLSP_BUNDLE=/models/clsp-small \
    CLSP_DATA_DIR=/data \
    CLSP_HOST=0.0.0.0 \
    CLSP_PORT=8000
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['CLSP_PORT']}/readyz\", timeout=4)"]
# The service itself is process 1: it gets the stop signal, finishes what it holds and closes the catalog.
CMD ["clsp", "serve"]
