# The book from nothing, at the versions of requirements.lock:
#   docker build -t hsiutils .
#   docker run --rm -v "$PWD/_build:/hsiutils/_build" hsiutils              the pages come to _build/html
#   docker run --rm -v "$PWD/_build:/hsiutils/_build" hsiutils make book PROFILE=smoke
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
ENV UV_TORCH_BACKEND=cpu
WORKDIR /hsiutils
COPY . .
RUN make setup
CMD ["make", "book"]
