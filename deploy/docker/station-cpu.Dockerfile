# An inspection station on a CPU, without torch. From the root of the checkout:
#   docker build --file deploy/docker/station-cpu.Dockerfile --tag microseg-station .
FROM python:3.11.14-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY microseg microseg
COPY train train
COPY export export
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11.14-slim-bookworm
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[cpu,openvino,archive]" \
    && install --directory --mode=1777 /config
# Profiles of `microseg tune`, for a volume that whoever runs it may write; the rest of the file system may be read-only.
ENV MICROSEG_CONFIG=/config
# By number, so that an orchestrator sees that it is not root.
USER 10001:10001
WORKDIR /data
# It measures and ends: its exit status says how it is.
HEALTHCHECK NONE
ENTRYPOINT ["microseg"]
CMD ["--help"]
