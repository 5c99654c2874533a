#!/bin/bash
# check_deb.sh - the Debian packages, on a clean Debian that boots its own service manager:
# install, start, use, build against the library, upgrade, remove, purge.
#
# usage: check_deb.sh FOLDER_OF_PACKAGES
#
# As root.  Makes the root by debootstrap from the mirror that this machine's apt uses, boots
# it by systemd-nspawn with a network of its own, and removes it.  Exits 77 where these are
# missing.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "check_deb: must be root"; exit 77; }
for tool in debootstrap dpkg-deb nsenter systemd-nspawn; do
    command -v "$tool" >/dev/null || { echo "check_deb: there is no $tool"; exit 77; }
done
debs=$(cd "$1" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/pt2-deb-XXXXXX")
root=$work/root
nspawn=

step() {
    printf '== %s\n' "$*"
}

fail() {
    echo "FAIL: $*"
    inside journalctl --no-pager -n 40 2>/dev/null || tail -n 40 "$work/boot.out" || true
    exit 1
}

finish() {
    [ -z "$nspawn" ] || { kill "$nspawn"; wait "$nspawn"; } 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap finish EXIT

# inside COMMAND ...: in the booted system.
inside() {
    nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup -- "$@"
}

# call PATH [curl's options]: of the daemon, whose answer must be a 2xx.
call() {
    local path=$1
    shift
    inside curl -sS --fail-with-body --max-time 100 "$@" "http://127.0.0.1:8250$path"
}

# member NAME: of the JSON on standard input, a string, the first of that name.
member() {
    grep -o "\"$1\": *\"[^\"]*\"" | head -n 1 | sed 's/.*: *"//; s/"$//'
}

# until COMMAND ...: a minute at most.
until_true() {
    local end=$((SECONDS + 60))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "not within a minute: $*"
        sleep 0.2
    done
}

step "a clean Debian"
site=$(apt-get indextargets --format '$(CREATED_BY) $(CODENAME) $(SITE)' |
    awk '$1 == "Packages" && $2 !~ /-/ && /debian/ { print $2, $3; exit }')
suite=${site%% *}
debootstrap --variant=minbase --include=ca-certificates,curl,dbus,systemd,systemd-sysv \
    "$suite" "$root" "${site#* }" >"$work/debootstrap.out" 2>&1 ||
    { tail "$work/debootstrap.out"; exit 1; }
export DEBIAN_FRONTEND=noninteractive

step "the packages, and one of pt2d as an earlier version had it"
cp "$debs"/pt2d_*.deb "$debs"/libpt2-0_*.deb "$debs"/libpt2-dev_*.deb "$root/root/"
pt2d=$(basename "$debs"/pt2d_*.deb)
dpkg-deb -R "$debs/$pt2d" "$work/earlier"
sed -i 's/^Version: .*/Version: 0.0.9-1/' "$work/earlier/DEBIAN/control"
echo '# As 0.0.9 had it.' >>"$work/earlier/etc/pt2d.conf"
dpkg-deb -b "$work/earlier" "$root/root/earlier.deb" >/dev/null

# What they depend on comes while there is a network; then they go again, so that the
# installation that is tested is the booted system's first.
chroot "$root" sh -c "apt-get update -qq && apt-get install -y -qq --no-install-recommends \
    /root/$pt2d /root/libpt2*.deb && dpkg --purge pt2d libpt2-dev libpt2-0" \
    >"$work/depends.out" 2>&1 || { tail "$work/depends.out"; exit 1; }
[ ! -e "$root/etc/pt2d.conf" ] && [ ! -e "$root/var/lib/pt2d" ] || fail "purge left something"

step "boot"
systemd-nspawn -D "$root" -b --register=no --keep-unit --private-network --console=pipe \
    >"$work/boot.out" 2>&1 </dev/null &
nspawn=$!
init=
end=$((SECONDS + 60))
until init=$(pgrep -P "$nspawn" -x systemd) && inside systemctl is-system-running --wait \
    >"$work/running" 2>&1 || grep -q degraded "$work/running" 2>/dev/null; do
    [ $SECONDS -lt $end ] || fail "it does not boot"
    sleep 0.2
done

step "install, and it runs"
inside dpkg -i /root/earlier.deb >"$work/install.out" 2>&1 ||
    { cat "$work/install.out"; fail "install"; }
until_true call /readyz
inside systemctl is-enabled pt2d.service >/dev/null || fail "the service is not enabled"
[ "$(inside systemctl is-enabled pt2d.socket || true)" = disabled ] || fail "the sockets are enabled"
[ "$(inside stat -c '%U %a' /var/lib/pt2d)" = "pt2d 700" ] || fail "the state directory is not pt2d's"
pid=$(inside systemctl show -P MainPID pt2d.service)
[ "$(inside stat -c %U "/proc/$pid")" = pt2d ] || fail "the daemon is not pt2d's"
for page in man1/pt2-export.1 man1/pt2ctl.1 man5/pt2d.conf.5 man8/pt2d.8; do
    grep -qx "/usr/share/man/$page.gz" <(inside dpkg -L pt2d) || fail "no manual page $page"
done

step "use: export the bundled model, step it on both engines"
job=$(call /v1/exports --json '{"model": "demo", "cache": {"max_cache_len": 64}}' | member id)
state=$(call "/v1/exports/$job?wait=60" | member state)
[ "$state" = succeeded ] || fail "the export is '$state': $(call "/v1/exports/$job")"
for engine in native aten; do
    session=$(call /v1/sessions --json "{\"program\": \"$job\", \"engine\": \"$engine\"}" | member id)
    call "/v1/sessions/$session/step" --json \
        '{"input_ids": [[84, 104, 101]], "logits": false, "top_k": 1}' >"$work/$engine"
    grep -q '"position": *3' "$work/$engine" || fail "$engine: $(cat "$work/$engine")"
done
[ "$(grep -o '"ids": *[^a-z]*' "$work/native")" = "$(grep -o '"ids": *[^a-z]*' "$work/aten")" ] ||
    fail "the engines differ: $(cat "$work/native" "$work/aten")"
inside pt2ctl exports | grep -q succeeded || fail "pt2ctl"

step "a program of somebody else's, built against libpt2-dev"
inside sh -c 'dpkg -i /root/libpt2-0_*.deb /root/libpt2-dev_*.deb' >/dev/null
cat >"$work/user.c" <<'C'
#include <pt2/archive.h>
#include <stdio.h>
int main(void)
{
    struct pt2_archive *archive;
    struct pt2_err err = {0};

    return pt2_archive_open("/nothing", &archive, &err) < 0 && puts(err.text) > 0 ? 0 : 1;
}
C
libdir=$(echo "$root"/usr/lib/*/libpt2.so)
libdir=${libdir%/libpt2.so}
cc "$work/user.c" -I"$root/usr/include" -L"$libdir" -lpt2 -Wl,--allow-shlib-undefined \
    -o "$root/root/user"
inside /root/user >/dev/null || fail "the program does not run"

step "upgrade: what the administrator wrote stays, and the state"
inside sed -i 's/^#log_level = .*/log_level = debug/' /etc/pt2d.conf
before=$(inside sha256sum /etc/pt2d.conf)
inside dpkg -i --force-confdef "/root/$pt2d" >"$work/upgrade.out" 2>&1 ||
    { cat "$work/upgrade.out"; fail "upgrade"; }
until_true call /readyz
[ "$(inside sha256sum /etc/pt2d.conf)" = "$before" ] || fail "the configuration was changed"
inside test -e /etc/pt2d.conf.dpkg-dist || fail "the new configuration is nowhere"
[ "$pid" != "$(inside systemctl show -P MainPID pt2d.service)" ] || fail "it was not restarted"
[ "$(call "/v1/exports/$job" | member state)" = succeeded ] || fail "the export is gone"
call "/v1/exports/$job/file" -o /root/file.pt2
sum=$(inside sha256sum /root/file.pt2)
[ "${sum%% *}" = "$(call "/v1/exports/$job" | member program)" ] || fail "the program is another"

step "remove: configuration and state stay"
inside dpkg -r pt2d >/dev/null
! call /healthz >/dev/null 2>&1 || fail "it still runs"
inside test -e /etc/pt2d.conf || fail "the configuration is gone"
inside test -e /var/lib/pt2d/pt2d.db || fail "the state is gone"

step "purge: nothing stays"
inside dpkg --purge pt2d >/dev/null
left=$(inside find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /tmp -o -path /run \
    -o -path /var/log -o -path /var/lib/systemd \) -prune -o -name '*pt2d*' -print)
[ -z "$left" ] || fail "purge left: $left"
echo "check_deb: all held, on $suite"
