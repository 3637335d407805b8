# Two images of one static program, both for user 100:1000 (`vault`) and a read-only root: only /tmp and
# /home/vault are ever written, and what a configuration names.
#
#   docker build --target scratch -t leasehold .            the program and nothing else
#   docker build --target busybox -t leasehold:busybox .    with a shell: for the Kubernetes injector, and health
#                                                           checks by `test -f`
#
# Both take the command lines of the peers' images: `agent -config=...`, `vault agent -config=...`; without one,
# `agent` with what is mounted at /vault/config.

FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends busybox-static && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --no-default-features \
    && image/root scratch /scratch target/release/leasehold \
    && image/root busybox /busybox target/release/leasehold

FROM scratch AS busybox
COPY --from=build /busybox/ /
COPY --from=build --chown=100:1000 /busybox/home/vault /home/vault
ENV PATH=/bin HOME=/home/vault
WORKDIR /home/vault
USER 100:1000
ENTRYPOINT ["/bin/entrypoint"]
CMD ["agent", "-config=/vault/config"]

FROM scratch AS scratch
COPY --from=build /scratch/ /
COPY --from=build --chown=100:1000 /scratch/home/vault /home/vault
ENV PATH=/bin HOME=/home/vault
WORKDIR /home/vault
USER 100:1000
ENTRYPOINT ["/bin/leasehold"]
CMD ["agent", "-config=/vault/config"]
