# A station with a data-centre card: builds plans and runs them, without torch. From the root of the checkout:
#   docker build --file deploy/docker/station-gpu.Dockerfile --tag microseg-station-gpu .
# A plan belongs to the TensorRT of the image that built it: another tag here means building plans again.
FROM python:3.11.14-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY microseg microseg
COPY train train
COPY export export
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM nvcr.io/nvidia/tensorrt:25.10-py3
COPY --from=wheel /wheels /wheels
# TensorRT is the image's own; the rest of the extra `tensorrt` is named here, CUDA's bindings of the image's CUDA.
RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir \
      /wheels/*.whl "cuda-bindings>=13,<14" "onnx>=1.17" \
    && python3 -c "import sys, tensorrt; assert sys.version_info >= (3, 11)" \
    && install --directory --mode=1777 /config
ENV MICROSEG_CONFIG=/config
USER 10001:10001
WORKDIR /data
HEALTHCHECK NONE
ENTRYPOINT ["microseg"]
CMD ["--help"]
