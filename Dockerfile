# The image of all parts of Collective: `collective` and `collective-operator`. "npm run image" makes it and lays out the folder
# that the lines below copy from: Node and packages as package-lock.json pins them, and the sources, which Node runs as they lie.
#
# The base needs glibc, libstdc++ and certificates of public authorities, and no shell; Node is not its affair. Where no container
# registry can be reached, "npm run image" makes one of the same content from Debian packages.
ARG BASE=gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f
FROM ${BASE}

COPY node/ /usr/local/
COPY node_modules/ /opt/collective/node_modules/
COPY programs/ /usr/local/bin/
COPY tree/ /opt/collective/
# Empty, and all that the user owns: a volume that is mounted there for the first time takes owner and mode from here.
COPY --chown=65532:65532 volumes/var/lib/ /var/lib/
COPY --chown=65532:65532 volumes/run/ /run/
COPY sbom.cdx.json /usr/share/sbom/collective.cdx.json

ENV PATH=/usr/local/bin:/usr/bin:/bin \
    HOME=/home/nonroot
WORKDIR /home/nonroot
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/collective"]

ARG VERSION
ARG CONTENT
LABEL org.opencontainers.image.title="Collective" \
      org.opencontainers.image.description="One shared file space over storage that each member owns" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      storage.collective.content="${CONTENT}"
