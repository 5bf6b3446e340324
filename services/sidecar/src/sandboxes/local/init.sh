# PID 1 of a local sandbox: builds the root, starts the guard without any right, reaps orphans, ends with the lifeline.
# Arguments: ROOT FSTAB SYSTEM_LINKS BIND UID GID NOFILE NPROC GUARD_COMMAND...
# BIND is `-`, or the options for mounting the working directory it starts in as the workspace.
# Descriptors: 0 and 1 are the pipe (for the guard only), 3 is the lifeline. The script's text comes in with -c.
set -euo pipefail
root=$1 fstab=$2 links=$3 bind=$4 uid=$5 gid=$6 nofile=$7 nproc=$8
shift 8
umask 022

ip link set lo up || perl -e '
  use Socket; socket(my $s, AF_INET, SOCK_DGRAM, 0) or exit 1;
  my $request = pack("a16 s x14", "lo", 0x41); # IFF_UP | IFF_RUNNING
  ioctl($s, 0x8914, $request) or exit 1; # SIOCSIFFLAGS
'
# In a user namespace the file in /proc is not ours to write, but the call is ours to make.
hostname sandbox || echo sandbox >/proc/sys/kernel/hostname

mount -t tmpfs -o size=4m,mode=755,nosuid,nodev pillion "$root"
if [ "$bind" != - ]; then
  # By the open directory and not by its name, which somebody may have given to another one since it was checked.
  mkdir "$root/workspace"
  mount --no-canonicalize --bind . "$root/workspace"
  mount -o "remount,bind,$bind" "$root/workspace"
fi
cd "$root"
mkdir -p dev/shm etc/alternatives proc tmp home/agent workspace usr opt/pillion opt/node .old
: >dev/null_ && for device in null zero full random urandom; do : >"dev/$device"; done && rm dev/null_
: >opt/node/node
for file in ld.so.cache ld.so.conf localtime; do [ ! -e "/etc/$file" ] || : >"etc/$file"; done
if [[ $fstab == *etc/ssl/certs/ca-certificates.crt* ]]; then
  # One file, under each name by which systems' programs look for the certificates that they trust.
  mkdir -p etc/ssl/certs etc/pki/tls/certs && : >etc/ssl/certs/ca-certificates.crt
  for name in ssl/cert.pem ssl/ca-bundle.pem pki/tls/certs/ca-bundle.crt; do
    ln -s /etc/ssl/certs/ca-certificates.crt "etc/$name"
  done
fi
for link in $links; do
  name=${link%%=*} target=${link#*=}
  if [ "$target" = - ]; then mkdir -p "$name"; else ln -s "$target" "$name"; fi
done
printf 'root:x:0:0::/:/usr/sbin/nologin\nagent:x:%s:%s::/home/agent:/usr/sbin/nologin\n' "$uid" "$gid" >etc/passwd
printf 'root:x:0:\nagent:x:%s:\n' "$gid" >etc/group
printf '127.0.0.1 localhost sandbox\n::1 localhost\n' >etc/hosts
printf 'passwd: files\ngroup: files\nhosts: files\n' >etc/nsswitch.conf
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
printf '%s' "$fstab" >.fstab
mount -a -T .fstab
rm .fstab
mkfifo -m 666 .ready .go
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
mount -o remount,ro,bind /

ulimit -c 0
ulimit -n "$nofile"
# Last steps of the guard's start, in its own user namespace: no namespaces below it, and a keyring of its own, so that
# neither the service's keys nor those that other runs of this user stored can be read (keyrings(7)).
begin='
  my ($file, $line);
  if (shift @ARGV) {
    open($file, ">", "/.ready") && print($file "\n") && close($file) or die "ready: $!";
    open($file, "<", "/.go") && defined($line = <$file>) or die "go: $!";
  }
  for my $kind (qw(user pid mnt net ipc uts cgroup)) {
    open($file, ">", "/proc/sys/user/max_${kind}_namespaces") && print($file "0\n") && close($file) or die "$kind: $!";
  }
  my $keyctl = { x86_64 => 250, aarch64 => 219 }->{shift @ARGV} or die "unknown machine";
  syscall($keyctl, 1, 0) >= 0 or $! == 38 or die "keyring: $!"; # KEYCTL_JOIN_SESSION_KEYRING; 38: a kernel without keys
  exec @ARGV or die "$ARGV[0]: $!";
'
machine=$(uname -m)
identity=(--bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs)
if [ "$uid" != 0 ]; then
  identity+=(--reuid="$uid" --regid="$gid" --clear-groups)
fi
(
  if [ "$uid" = 0 ]; then exec perl -e "$begin" 0 "$machine" setpriv "${identity[@]}" -- "$@"; fi
  ulimit -u "$nproc" # counted for each uid; a shared one would be limited by its other processes
  exec unshare --user --keep-caps -- perl -e "$begin" 1 "$machine" setpriv "${identity[@]}" -- "$@"
) <&0 3<&- &
guard=$!
exec 0</dev/null 1>&2
if [ "$uid" != 0 ]; then
  read -r _ </.ready
  echo "$uid $uid 1" >"/proc/$guard/uid_map"
  echo "$gid $gid 1" >"/proc/$guard/gid_map"
  echo >/.go
fi

# One line tells how to seal: then the last rights go. Without the line there was never a run: end.
order=
until IFS= read -r -t 0.25 -u 3 part; do
  status=$?
  order+=$part # time may be up in the middle of the line
  [ "$status" -gt 128 ] || exit 0 # the lifeline closed
  kill -0 "$guard" || { echo "the guard ended before it was sealed" >&2 && exit 1; }
done
order+=$part
[ ! -e /refs ] || mount -o remount,ro,bind /refs
case $order in
  read-only) mount -o remount,ro,bind /workspace ;;
  read-write) ;;
  *) echo "an order that is none: $order" >&2 && exit 1 ;;
esac
# One capability is kept, one that reaches nothing here: a process with fewer cannot trace this one then.
exec setpriv --bounding-set=-all,+kill --inh-caps=-all --ambient-caps=-all --no-new-privs -- \
  bash --noprofile --norc -c '
    printf "sealed\n" >&3
    # unshare outside holds the pipe open, so only this tells of a dead guard; bash raises no CHLD trap for a foreign child
    until IFS= read -r -t 0.25 -u 3 _ || [ $? -le 128 ]; do kill -0 "$1" 2>/dev/null || exit 1; done
    exit 0' "$0" "$guard" # $0 is the instance's mark: a sweep must find PID 1 too
