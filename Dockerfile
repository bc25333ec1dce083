# hashshield protect and verify on the processor, on a mounted folder; docs/integrate.md has the commands.
# Without --build-arg PIP_EXTRA_INDEX_URL=... (the index of torch for CPUs) the image is several GB larger.

FROM python:3.12-slim AS build
ARG PIP_EXTRA_INDEX_URL=
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY man man
COPY completions completions
COPY src src
RUN python -m venv /opt/hashshield && /opt/hashshield/bin/pip install --no-cache-dir .

FROM python:3.12-slim
COPY --from=build /opt/hashshield /opt/hashshield
# No home: any user may run this, and nobody's configuration is read. Nothing is downloaded; the embedded network is there.
ENV PATH=/opt/hashshield/bin:$PATH \
    HOME=/nonexistent \
    HASHSHIELD_VAULT=/vault \
    HASHSHIELD_OFFLINE=1 \
    PYTHONDONTWRITEBYTECODE=1
RUN mkdir -m 0700 /vault && chown 1000:1000 /vault
USER 1000:1000
WORKDIR /photos
ENTRYPOINT ["hashshield"]
CMD ["--help"]
