#!/bin/sh
# Runs before an installation (deb: install, rpm: 1) and before an upgrade, as root. Only now the two can be told
# apart: after a removal the deb has an older version too. The script that runs afterwards reads it.
set -e
new="${DPKG_ROOT:-}/run/causeway-package-new"
case "$1" in
install | 1)
	mkdir -p "${new%/*}"
	: >"$new"
	;;
*) rm -f "$new" ;;
esac
