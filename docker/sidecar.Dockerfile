# The service's own image: `serve` (the default), `run` and `engine-proxy`; nothing proprietary, no key, no setuid file.
# Targets: runtime (the default, source baked in) and dev (watches sources that are mounted over its own).
ARG NODE_IMAGE=node:24.21.0-bookworm-slim
ARG DEBIAN_IMAGE=debian:bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /src
RUN --mount=type=secret,id=extra_ca,target=/run/extra_ca,required=false \
    --mount=type=cache,target=/root/.npm \
    if [ -s /run/extra_ca ]; then export NODE_EXTRA_CA_CERTS=/run/extra_ca; fi; \
    npm install --global --silent --no-fund --no-audit pnpm@12.21.0
COPY package.json pnpm-lock.yaml pnpm-workspace.yaml ./
# The lock file names a platform's packages for each architecture, with their digests. Of packages' own scripts only
# those run that pnpm-workspace.yaml allows. ssh2, which dockerode brings, has private keys among its tests.
RUN --mount=type=secret,id=extra_ca,target=/run/extra_ca,required=false \
    --mount=type=cache,target=/root/.local/share/pnpm/store \
    if [ -s /run/extra_ca ]; then export NODE_EXTRA_CA_CERTS=/run/extra_ca; fi; \
    pnpm install --frozen-lockfile --package-import-method copy \
 && rm -rf node_modules/.pnpm/ssh2@*/node_modules/ssh2/test

FROM build AS bundles
COPY . .
RUN node scripts/build.mjs

# Sources, config and skills are mounted over those here; what sandboxes are made of (dist/product) is as it was built.
FROM bundles AS dev
RUN install -d -m 1777 /data
ENV PILLION_HOST=0.0.0.0 \
    PILLION_HOME=/data/pillion \
    HOME=/home/pillion \
    LANG=C.UTF-8
USER 1000:1000
VOLUME /data
EXPOSE 8765
ENTRYPOINT ["/src/node_modules/.bin/tsx", "watch", "--clear-screen=false", "services/sidecar/src/main.ts"]
CMD ["serve"]

# Everything from Debian, put together here and copied as one layer: what was removed on the way is in none. git brings
# a whole perl, which only some of its rarer commands use. One time for all files makes the layer the same in every build.
FROM ${DEBIAN_IMAGE} AS system
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      ca-certificates git gpgv libstdc++6 tini >/dev/null \
 && dpkg --purge --force-depends $(dpkg-query --show --showformat='${Package}\n' 'perl' 'perl-modules-*' 'libperl5*' 'liberror-perl') >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /var/lib/dpkg/*-old /etc/*- /tmp/* /usr/share/doc/git/contrib \
 && find / -xdev -perm /6000 -exec chmod a-s {} + \
 && printf 'pillion:x:1000:1000::/home/pillion:/usr/sbin/nologin\n' >>/etc/passwd \
 && printf 'pillion:x:1000:\n' >>/etc/group \
 && install -d -m 0755 /home/pillion \
 && install -d -m 1777 /data \
 && find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /etc/resolv.conf -o -path /etc/hosts \) -prune -o \
      -newermt @1577836800 -exec touch --no-dereference --date=@1577836800 {} +

FROM ${NODE_IMAGE} AS node
RUN install -D /usr/local/bin/node /out/usr/local/bin/node \
 && if [ -e /usr/local/LICENSE ]; then install -D -m 644 /usr/local/LICENSE /out/usr/share/doc/node/copyright; fi \
 && find /out -exec touch --date=@1577836800 {} +

# The same for what is ours, apart by how often it changes.
FROM bundles AS program
RUN install -d /out/rarely/app/dist/product /out/often/app/dist/product /out/often/usr/share/doc/pillion /out/often/usr/local/bin \
 && mv dist/daemon /out/rarely/app/dist/daemon \
 && mv dist/product/pi dist/product/bin /out/rarely/app/dist/product/ \
 && cp -r dist/product/* /out/often/app/dist/product/ && rm -rf dist/product dist/.stamp \
 && cp -r dist/* /out/often/app/dist/ \
 && cp -r config skills package.json LICENSE /out/often/app/ \
 && cp LICENSE /out/often/usr/share/doc/pillion/copyright \
 && install -m 0755 docker/rootfs/pillion /out/often/usr/local/bin/pillion \
 && install -m 0644 docker/rootfs/sidecar-health.mjs /out/often/app/health.mjs \
 && chmod -R u=rwX,go=rX /out \
 && find /out -exec touch --no-dereference --date=@1577836800 {} +

FROM scratch AS runtime
COPY --from=system / /
COPY --from=node /out /
COPY --from=program /out/rarely /
COPY --from=program /out/often /
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Pillion" \
      org.opencontainers.image.description="A sidecar that runs coding agents for a backend, each in a sandbox of its own" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# Nothing is ever written to HOME; the data directory is /data/pillion.
ENV PATH=/usr/local/bin:/usr/bin:/bin \
    HOME=/home/pillion \
    LANG=C.UTF-8 \
    NODE_ENV=production \
    PILLION_HOST=0.0.0.0 \
    PILLION_HOME=/data/pillion \
    PI_OFFLINE=1 PI_SKIP_VERSION_CHECK=1 PI_TELEMETRY=0
USER 1000:1000
WORKDIR /
VOLUME /data
EXPOSE 8765
ENTRYPOINT ["tini", "--", "pillion"]
CMD ["serve"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["node", "/app/health.mjs"]
