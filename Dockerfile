# roomcast as a small image that runs as nobody in particular. Two stages: one that builds, with a compiler,
# make and perl for the vendored OpenSSL; one that runs, with the certificates that the providers' HTTPS needs.
FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --locked --release

FROM debian:12.12-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /build/target/release/roomcast /usr/local/bin/roomcast
# No name and no home: it writes nothing but its log.
USER 65532:65532
# 9600: API and console. 9601: probes and metrics alone, where `[admin] probes` asks for them.
EXPOSE 9600 9601
ENTRYPOINT ["/usr/local/bin/roomcast"]
CMD ["--help"]
