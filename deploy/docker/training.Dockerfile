# Training and export. torch's wheels bring CUDA; the host gives the driver, through the NVIDIA Container Toolkit. From the
# root of the checkout:
#   docker build --file deploy/docker/training.Dockerfile --tag microseg-training .
FROM python:3.11.14-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY microseg microseg
COPY train train
COPY export export
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11.14-slim-bookworm
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[train,export]"
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
WORKDIR /work
HEALTHCHECK NONE
ENTRYPOINT ["microseg"]
CMD ["--help"]
