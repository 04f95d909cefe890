# One image for every process of a server: `stepwell api`, `stepwell engine`, `stepwell worker`, `stepwell db upgrade`.
# A worker's image is better made from the user's own, with `pip install stepwell` beside their code.

FROM python:3.12-slim AS build
WORKDIR /source
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
# The locked requirements first: they change less often than the source, and keep this layer.
COPY requirements/run.txt requirements/run.txt
RUN pip install --no-cache-dir --require-hashes --requirement requirements/run.txt
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 stepwell && mkdir /data && chown stepwell: /data
COPY --from=build /venv /venv
COPY asl_examples /app/asl_examples
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STEPWELL_DATA_DIR=/data \
    STEPWELL_HOST=0.0.0.0 \
    STEPWELL_LISTEN_HOST=0.0.0.0 \
    STEPWELL_LOG_FORMAT=json
WORKDIR /app
USER stepwell
VOLUME /data
EXPOSE 8083
STOPSIGNAL SIGTERM
ENTRYPOINT ["stepwell"]
CMD ["api"]
