# Phalanx as an image, whose entry is the command line:
#
#   docker build --build-arg DEVICE=cpu -t phalanx .       or DEVICE=cuda, for GPUs of NVIDIA
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" phalanx train fold=0 experiment=base data.root=DIR
#
# Folders such as runs/ and submissions/ are made in /work. See docs/docker.md.
ARG DEVICE=cpu
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS cpu
# builds of torch without CUDA, a tenth of the size
ENV TORCH_INDEX=https://download.pytorch.org/whl/cpu

FROM python:${PYTHON}-slim-bookworm AS cuda
# CUDA comes with the packages of torch, the driver from the host by the NVIDIA container toolkit; the compiler is for
# Triton, which compiles the launchers of our kernels
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# hadolint ignore=DL3006
FROM ${DEVICE} AS phalanx
ENV PIP_NO_CACHE_DIR=1
WORKDIR /opt/phalanx
# the packages first, in a layer that stays as it is while the code changes
COPY requirements.txt pyproject.toml setup.py setup.sh README.md LICENSE ./
COPY src/phalanx/__init__.py src/phalanx/__init__.py
RUN bash setup.sh
COPY src src
COPY configs configs
RUN .venv/bin/python -m compileall -q src \
    && useradd --uid 1000 --no-create-home --home-dir /work phalanx \
    && install --directory --owner=phalanx --group=phalanx /work
# caches are below HOME: whichever user runs the image, it writes into the folder that is mounted
ENV HOME=/work \
    NO_ALBUMENTATIONS_UPDATE=1
WORKDIR /work
USER 1000
ENTRYPOINT ["/opt/phalanx/.venv/bin/phalanx"]
CMD ["--help"]
