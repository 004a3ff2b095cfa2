# syntax=docker/dockerfile:1

FROM --platform=$BUILDPLATFORM golang:1.27.2-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=unknown
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOFLAGS=-buildvcs=false \
    go build -tags grpcnotrace -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /causeway ./cmd/causeway

# For pods: the agent, with the Envoy that it runs. `docker build --target agent`
FROM envoyproxy/envoy:distroless-v1.40.0 AS agent
ARG VERSION=unknown
LABEL org.opencontainers.image.title="causeway-agent" \
      org.opencontainers.image.description="Causeway's agent and Envoy, for pods of the mesh" \
      org.opencontainers.image.source="https://github.com/causeway-mesh/causeway" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /causeway /usr/local/bin/causeway
COPY LICENSE /usr/share/doc/causeway/LICENSE
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/causeway"]
CMD ["agent", "run"]

# Certificate authorities, time zones, a user without rights, and nothing else.
FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=unknown
LABEL org.opencontainers.image.title="causeway" \
      org.opencontainers.image.description="Envoy control plane for one mesh over EC2 and Kubernetes" \
      org.opencontainers.image.source="https://github.com/causeway-mesh/causeway" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /causeway /usr/local/bin/causeway
COPY LICENSE /usr/share/doc/causeway/LICENSE
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/causeway"]
CMD ["serve"]
