# The image of a run: guard, Pi, our extension and the Node they need; nothing proprietary, no key.
# Targets: base (what runs get by default), slim (with the usual tools), browser.
ARG NODE_IMAGE=node:24.21.0-bookworm-slim
ARG DEBIAN_IMAGE=debian:bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /src
RUN --mount=type=secret,id=extra_ca,target=/run/extra_ca,required=false \
    --mount=type=cache,target=/root/.npm \
    if [ -s /run/extra_ca ]; then export NODE_EXTRA_CA_CERTS=/run/extra_ca; fi; \
    npm install --global --silent --no-fund --no-audit pnpm@12.21.0
COPY package.json pnpm-lock.yaml pnpm-workspace.yaml ./
RUN --mount=type=secret,id=extra_ca,target=/run/extra_ca,required=false \
    --mount=type=cache,target=/root/.local/share/pnpm/store \
    if [ -s /run/extra_ca ]; then export NODE_EXTRA_CA_CERTS=/run/extra_ca; fi; \
    pnpm install --frozen-lockfile --package-import-method copy
COPY . .
RUN node scripts/build.mjs \
 && if [ -e /usr/local/LICENSE ]; then install -D -m 644 /usr/local/LICENSE dist/product/node/LICENSE; fi

# Node with the C libraries that it needs beside it, so that it runs in images of any libc, or of none.
FROM ${DEBIAN_IMAGE} AS portable-node
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends patchelf >/dev/null
COPY --from=build /usr/local/bin/node /opt/pillion/node/bin/node
RUN cd /opt/pillion/node && mkdir lib \
 && cp -L $(ldd bin/node | grep -o '/[^ ]*') lib/ \
 && patchelf --set-interpreter "/opt/pillion/node/lib/$(basename "$(patchelf --print-interpreter bin/node)")" \
      --force-rpath --set-rpath /opt/pillion/node/lib bin/node \
 && bin/node --version

# Everything is put together here and copied as one layer: what was removed on the way is in none.
FROM ${DEBIAN_IMAGE} AS rootfs-base
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends git ca-certificates tini >/dev/null \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/log/* \
 && find / -xdev -perm /6000 -type f -exec chmod a-s {} + \
 && printf 'agent:x:1000:1000::/home/agent:/usr/sbin/nologin\n' >>/etc/passwd \
 && printf 'agent:x:1000:\n' >>/etc/group \
 && install -d -o 1000 -g 1000 -m 0755 /workspace /home/agent \
 && install -d -m 0755 /refs
COPY --from=portable-node /opt/pillion/node /opt/pillion/node
COPY --from=build /src/dist/product /opt/pillion
RUN ln -s /opt/pillion/node/bin/node /usr/local/bin/node
COPY LICENSE /usr/share/doc/pillion/copyright
COPY --chmod=755 docker/rootfs/agent-entrypoint.sh /usr/local/bin/agent-entrypoint
COPY --chmod=755 docker/rootfs/agent-health.sh /usr/local/bin/agent-health
# A run reaches no interpreter but the Node that its harness is made of: git's usual commands need neither perl nor awk.
RUN rm -rf /usr/bin/perl* /usr/share/perl* /usr/lib/*/perl* /usr/bin/mawk /usr/bin/awk /usr/bin/nawk /etc/alternatives/*awk* \
      /usr/lib/git-core/*.perl /usr/lib/git-core/git-add--interactive /usr/lib/git-core/git-instaweb /usr/lib/git-core/git-request-pull \
      /usr/lib/git-core/git-submodule-filter /usr/share/doc/git/contrib \
 && chmod 1777 /workspace /home/agent
# A run may not read it, so the kernel closes its processes (the guard, the harness) to the run's other ones.
# Runtimes that must read what they execute give the run this group (sandboxes/docker/container-spec.ts).
RUN chgrp 64220 /opt/pillion/node/bin/node && chmod 0751 /opt/pillion/node/bin/node

FROM scratch AS base
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
COPY --from=rootfs-base / /
LABEL org.opencontainers.image.title="Pillion agent" \
      org.opencontainers.image.description="Where Pillion's runs live: guard, Pi and Node, without any key or proprietary program" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
ENV PATH=/opt/pillion/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/home/agent \
    LANG=C.UTF-8 \
    GIT_TERMINAL_PROMPT=0 \
    GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=* \
    PI_OFFLINE=1 PI_SKIP_VERSION_CHECK=1 PI_TELEMETRY=0 \
    DISABLE_AUTOUPDATER=1 DISABLE_TELEMETRY=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
USER 1000:1000
WORKDIR /workspace
ENTRYPOINT ["tini", "--", "agent-entrypoint"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["agent-health"]
