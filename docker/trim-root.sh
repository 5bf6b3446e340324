#!/bin/sh
# Takes out of a Debian root what no run needs: trim-root.sh PACKAGE…, removed in this order (patterns allowed). For the images' build only.
# Purged and not just deleted, so that the package list in the image tells what is there.
set -eu
log=$(mktemp)
for pattern in "$@"; do
  for package in $(dpkg-query -W -f '${Package} ' "$pattern" 2>/dev/null); do
    dpkg --purge --force-depends --force-remove-essential --force-remove-protected "$package" >"$log" 2>&1 || {
      cat "$log" >&2
      exit 1
    }
  done
done
rm -rf "$log" /var/lib/apt /var/cache/* /var/log/* /etc/apt /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian
# Licences are all that stays of the packages' pages.
find /usr/share/doc -mindepth 2 ! -type d ! -name copyright -delete
# git comes twice, and one of them is as good as a link.
cmp -s /usr/bin/git /usr/lib/git-core/git && ln -sf ../../bin/git /usr/lib/git-core/git
# A script without its interpreter is only confusing. `#!/usr/bin/env NAME` counts as NAME.
grep -rIHnm1 '^#!' /etc /usr /var | sed -n 's/^\(.*\):1:#! *\([^ ]*\) *\([^ ]*\).*/\2 \3 \1/p' | while read -r interpreter argument path; do
  [ -n "$path" ] || { path=$argument argument=; }
  [ "${interpreter##*/}" != env ] || interpreter=$argument
  command -v "$interpreter" >/dev/null || rm "$path"
done
find /usr /etc /var -xdev -type d -empty -path '*/git*' -delete
find / -xdev -perm /6000 ! -type l -exec chmod a-s {} +
