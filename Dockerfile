# One image for web tier and workers; docker-compose.yml says which command runs where.
FROM python:3.11-slim

# An index with torch for the CPU, where no GPU is meant: its wheels are a tenth of the size.
ARG PIP_EXTRA_INDEX_URL=

WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY rankcast rankcast
COPY tasks tasks
COPY gpu_worker gpu_worker
COPY web web
RUN pip install --no-cache-dir -c constraints.txt '.[server]' && rm -rf /src/*

# What a job can reach, users' code included, is no more than this user can.
RUN useradd --create-home rankcast && install -d -o rankcast -g rankcast /shared /keys
USER rankcast
WORKDIR /home/rankcast

# A rank that prints is heard at once.
ENV PYTHONUNBUFFERED=1
EXPOSE 8700
CMD ["rankcast", "--help"]
