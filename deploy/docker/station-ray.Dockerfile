# Head and workers of a Ray cluster that measures archives on CPUs, without torch. From the root of the checkout:
#   docker build --file deploy/docker/station-ray.Dockerfile --tag microseg-ray .
FROM python:3.11.14-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY microseg microseg
COPY train train
COPY export export
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11.14-slim-bookworm
# KubeRay's probes call wget.
RUN apt-get update && apt-get install --yes --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
# `default` has the server of jobs.
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[cpu,openvino,archive,cloud,ray]" "ray[default]==2.60.0" \
    && install --directory --mode=1777 /config
ENV RAY_USAGE_STATS_ENABLED=0 HOME=/tmp MICROSEG_CONFIG=/config
# By number, so that an orchestrator sees that it is not root.
USER 10001:10001
WORKDIR /tmp
# KubeRay has probes of its own.
HEALTHCHECK NONE
# KubeRay replaces it by what starts Ray.
ENTRYPOINT ["microseg"]
CMD ["--help"]
