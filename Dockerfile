# The baseline and its packages, without data. Where it has been built and run: docs/measurements.md.
#
#   docker build --tag baseline .
#   docker run --rm --init baseline                       # the demo
#   docker run --rm --init --user "$(id -u):$(id -g)" --volume "$PWD:/baseline" baseline bash 01_train.sh -d
#
# The last command, in a checkout, uses that checkout: its code, data and extensions; models, logs and results stay
# there. For CUDA add --gpus all. The image takes 6 GB, most of it CUDA; for the CPU alone, 2 GB, build it with
# --build-arg PIP_EXTRA_INDEX_URL=INDEX, where INDEX is the address of PyTorch's index of CPU builds. The tests, in a
# container: python -m pip install -r tests/requirements.txt && bash tests/run.sh
FROM python:3.11-slim

RUN useradd --create-home baseline && mkdir /baseline && chown baseline /baseline
WORKDIR /baseline

COPY requirements.txt constraints.txt ./
ARG PIP_EXTRA_INDEX_URL
RUN python -m pip install --no-cache-dir --requirement requirements.txt --constraint constraints.txt

# for the commit in a network's record, where a checkout is mounted
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*

# named one by one, so that data, networks and .venv of the checkout stay outside
COPY --chown=baseline *.py *.sh *.yaml *.toml *.md ./
COPY --chown=baseline runtime runtime
COPY --chown=baseline datasets datasets
COPY --chown=baseline networks networks
COPY --chown=baseline tools tools
COPY --chown=baseline examples examples
COPY --chown=baseline docs docs
COPY --chown=baseline tests tests

USER baseline
# the scripts use this Python as it is and make no .venv; any --user has a home
ENV PYTHON=/usr/local/bin/python HOME=/tmp
CMD ["bash", "tools/quickstart.sh"]
