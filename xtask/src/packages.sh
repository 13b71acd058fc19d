# Installs the packages given as arguments; run by root through packages.rs.
set -eu
policy=/usr/sbin/policy-rc.d

# invoke-rc.d asks policy-rc.d before it starts a service; 101 means "forbidden".
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

# Only services that come with this installation are kept from the next boot.
new=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || new="$new $package"
done

export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends "$@"

if command -v systemctl >/dev/null; then
    for package in $new; do
        case $package in
            nginx | prometheus | redis-server) systemctl disable "$package" ;;
        esac
    done
fi
