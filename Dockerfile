# timbre in a container, made by two commands: `python -m build` makes the wheel, `pip install` installs it.
#   docker build -t timbre .                              torch for processors only
#   docker build -t timbre --build-arg TORCH=cuda .       torch with CUDA's libraries: some GB more
#   docker run --rm -v "$PWD:/work" timbre restore noisy.wav restored.wav
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY configs configs
COPY shard_tools shard_tools
COPY timbre timbre
RUN python -m pip install --no-cache-dir "build==1.2.*" && python -m build --wheel --outdir /dist

FROM python:${PYTHON}-slim
ARG TORCH=cpu
COPY --from=wheel /dist /dist
# Builds of torch and torchaudio belong together: both come from one index.
RUN if [ "$TORCH" = cpu ]; then \
      python -m pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu \
        "torch>=2.11,<2.16" "torchaudio>=2.11,<2.12"; \
    fi && \
    python -m pip install --no-cache-dir /dist/*.whl && timbre --version
WORKDIR /work
ENTRYPOINT ["timbre"]
