#!/bin/sh
# Runs before a removal (deb: remove, rpm: 0) and before an upgrade, which stops nothing.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	# What is captured goes its own way first; then Envoy may go.
	systemctl stop causeway-capture.service causeway-agent.service || true
fi
if command -v systemctl >/dev/null; then
	systemctl disable causeway-agent.service || true
fi
