# The image of a run: guard, Pi, our extension and the Node they need; nothing proprietary, no key.
# Targets: base (what runs get by default), slim (with the usual tools), browser (slim with Chromium).
# Each is put together in a stage of its own and copied: what was removed on the way is in no layer.
ARG NODE_IMAGE=node:24.21.0-bookworm-slim
ARG DEBIAN_IMAGE=debian:bookworm-slim
# Debian's packages that no run needs, in the order of their removal.
ARG UNNEEDED="apt adduser e2fsprogs init-system-helpers login passwd debconf liberror-perl perl perl-modules-* libperl5* \
perl-base libapt-pkg* gpgv debian-archive-keyring logsave git-man"

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
RUN node scripts/build.mjs
# What runs get of it, a folder for each layer: what the lock file pins, and what is ours. init.sh is of sandboxes
# without a container. One time for all files makes a layer the same in every build.
RUN install -d /out/pinned/opt/pillion /out/pinned/usr/share/doc /out/ours/opt/pillion /out/ours/usr/local/bin \
 && if [ -e /usr/local/LICENSE ]; then install -D -m 644 /usr/local/LICENSE /out/pinned/usr/share/doc/node/copyright \
    && install -D -m 644 /usr/local/LICENSE /out/pinned/opt/pillion/node/LICENSE; fi \
 && install -D -m 644 config/licence-texts/@earendil-works__pi-coding-agent.txt /out/pinned/usr/share/doc/pi/copyright \
 && cp -a dist/product/. /out/ours/opt/pillion/ \
 && mv /out/ours/opt/pillion/pi /out/ours/opt/pillion/bin /out/ours/opt/pillion/harnesses.json /out/pinned/opt/pillion/ \
 && rm -r /out/ours/opt/pillion/guard/init.sh /out/ours/opt/pillion/docker \
 && ln -s /opt/pillion/node/bin/node /out/ours/usr/local/bin/node \
 && install -m 755 docker/rootfs/agent-entrypoint.sh /out/ours/usr/local/bin/agent-entrypoint \
 && install -m 755 docker/rootfs/agent-health.sh /out/ours/usr/local/bin/agent-health \
 && install -D -m 644 LICENSE /out/ours/usr/share/doc/pillion/copyright \
 && find /out -exec touch --no-dereference --date=@1577836800 {} +

# Node with the C libraries that it needs beside it, so that it runs in images of any libc, or of none. A run may not read
# it, so the kernel closes its processes (the guard, the harness) to the run's other ones. Runtimes that must read what
# they execute give the run this group (sandboxes/docker/container-spec.ts).
FROM ${DEBIAN_IMAGE} AS portable-node
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends patchelf >/dev/null
COPY --from=build /usr/local/bin/node /opt/pillion/node/bin/node
RUN cd /opt/pillion/node && mkdir lib \
 && cp -L $(ldd bin/node | grep -o '/[^ ]*') lib/ \
 && patchelf --set-interpreter "/opt/pillion/node/lib/$(basename "$(patchelf --print-interpreter bin/node)")" \
      --force-rpath --set-rpath /opt/pillion/node/lib bin/node \
 && bin/node --version \
 && chgrp 64220 bin/node && chmod 0751 bin/node \
 && mkdir -p /out/node/opt/pillion && mv /opt/pillion/node /out/node/opt/pillion/ \
 && find /out -exec touch --no-dereference --date=@1577836800 {} +

FROM ${DEBIAN_IMAGE} AS debian-base
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends git ca-certificates tini libnss-myhostname >/dev/null \
 && printf 'agent:x:1000:1000::/home/agent:/usr/sbin/nologin\n' >>/etc/passwd \
 && printf 'agent:x:1000:\n' >>/etc/group \
 && [ "$(id -u agent)" = 1000 ] \
 && printf '[safe]\n\tdirectory = *\n[core]\n\tpager = cat\n\teditor = true\n' >/etc/gitconfig \
 && install -d -o 1000 -g 1000 -m 1777 /workspace /home/agent \
 && install -d -m 0755 /refs

FROM debian-base AS debian-slim
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends curl jq python3 >/dev/null

FROM debian-slim AS debian-browser
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      chromium-headless-shell fonts-liberation fonts-noto-color-emoji >/dev/null

# A run of base reaches no interpreter but the Node that its harness is made of, and the sh that git needs.
FROM debian-base AS root-base
ARG UNNEEDED
RUN --mount=type=bind,source=docker/trim-root.sh,target=/mnt/trim-root.sh \
    sh /mnt/trim-root.sh $UNNEEDED bash mawk

FROM debian-slim AS root-slim
ARG UNNEEDED
RUN --mount=type=bind,source=docker/trim-root.sh,target=/mnt/trim-root.sh \
    sh /mnt/trim-root.sh $UNNEEDED

# Chromium draws by its own SwiftShader; the drivers of graphic cards, with their compiler, are half of what it brings.
FROM debian-browser AS root-browser
ARG UNNEEDED
RUN --mount=type=bind,source=docker/trim-root.sh,target=/mnt/trim-root.sh \
    sh /mnt/trim-root.sh $UNNEEDED libgl1-mesa-dri 'libllvm*' 'libz3-*'

# What is set on every target; no layer.
FROM scratch AS settings
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
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
    PI_OFFLINE=1 PI_SKIP_VERSION_CHECK=1 PI_TELEMETRY=0 \
    DISABLE_AUTOUPDATER=1 DISABLE_TELEMETRY=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
USER 1000:1000
ENTRYPOINT ["tini", "-s", "--", "agent-entrypoint"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["agent-health"]

# Layers by how often they change: Debian, Node, what the lock file pins, ours.
FROM settings AS slim
COPY --from=root-slim / /
COPY --from=portable-node /out/node /
COPY --from=build /out/pinned /
COPY --from=build /out/ours /
WORKDIR /workspace

FROM settings AS browser
COPY --from=root-browser / /
COPY --from=portable-node /out/node /
COPY --from=build /out/pinned /
COPY --from=build /out/ours /
WORKDIR /workspace

# Last, so that a build without a target makes it.
FROM settings AS base
COPY --from=root-base / /
COPY --from=portable-node /out/node /
COPY --from=build /out/pinned /
COPY --from=build /out/ours /
WORKDIR /workspace
