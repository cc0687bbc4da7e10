#!/bin/sh
# Installs what `make test-real` needs on Debian or Ubuntu. Does nothing, quickly, when all of it is there.
set -eu

packages='fuse3 gcc iproute2 iptables iputils-ping libc6-dev libnuma1 nftables nginx-light openssh-client
openssh-server openssl procps python3 sshfs sudo tmux util-linux'
tools='cc fusermount3 ip iptables-save lscpu nft nginx nsenter openssl pgrep ping python3 ssh-keygen sshd sshfs sudo tmux unshare
visudo'

if [ "$(id -u)" != 0 ]; then
  echo "test-real: needs root: it makes network namespaces, mounts and a bridge. Run: sudo make test-real" >&2
  exit 1
fi

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=
for tool in $tools; do command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"; done
# vLLM's own libraries need it.
ldconfig -p | grep -q 'libnuma\.so\.1 ' || missing="$missing libnuma.so.1"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "test-real: not on this machine:$missing; and there is no apt-get. Install the equivalents of:" $packages >&2
  exit 1
fi

export DEBIAN_FRONTEND=noninteractive
# Nothing is started: the lab runs sshd of its own, and this machine's must stay as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
install() { apt-get install -y -q --no-install-recommends $packages; }
install >/dev/null 2>&1 || { apt-get update -q && install; }
