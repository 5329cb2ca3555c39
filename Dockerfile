# The baseline and its packages, without data. This file has not been built on the machine that it was written on.
#
#   docker build --tag baseline .
#   docker run --rm baseline                                                    the demo
#   mkdir -p data models logs results
#   docker run --rm --user "$(id -u):$(id -g)" --env HOME=/tmp --volume "$PWD/data:/baseline/data" \
#       --volume "$PWD/models:/baseline/models" --volume "$PWD/logs:/baseline/logs" \
#       --volume "$PWD/results:/baseline/results" baseline bash 01_train.sh -d
#
# For CUDA add --gpus all.
FROM python:3.11-slim

RUN useradd --create-home baseline && mkdir /baseline && chown baseline /baseline
WORKDIR /baseline

COPY requirements.txt constraints.txt ./
RUN python -m pip install --no-cache-dir --requirement requirements.txt --constraint constraints.txt

# named one by one, so that data, networks and .venv of the checkout stay outside
COPY --chown=baseline *.py *.sh *.yaml *.toml *.md ./
COPY --chown=baseline datasets datasets
COPY --chown=baseline networks networks
COPY --chown=baseline tools tools
COPY --chown=baseline examples examples
COPY --chown=baseline tests tests

USER baseline
# the scripts then use this Python as it is, and make no .venv
ENV PYTHON=/usr/local/bin/python
CMD ["bash", "tools/quickstart.sh"]
