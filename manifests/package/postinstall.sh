#!/bin/sh
# Runs after an installation and after an upgrade, as root.
set -e
new="${DPKG_ROOT:-}/run/causeway-package-new"
upgrade=true
if [ -e "$new" ]; then
	upgrade=false
	rm -f "$new"
fi
command -v systemd-sysusers >/dev/null && systemd-sysusers causeway.conf
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# An upgrade restarts nothing: that ends connections, so it is for whoever runs this host to say when.
	if systemctl is-active --quiet causeway-agent.service; then
		echo "causeway: the agent still runs as before; when it suits: systemctl restart causeway-agent"
		exit 0
	fi
	# Who has masked it wants it stopped. Enabling it would fail, and leave the package half installed.
	case "$(systemctl is-enabled causeway-agent.service 2>/dev/null)" in
	masked*)
		echo "causeway: the agent is masked and stays so; to let it join: systemctl unmask causeway-agent"
		exit 0
		;;
	esac
	if $upgrade; then
		echo "causeway: the agent is stopped and stays so; to start it: systemctl start causeway-agent"
		exit 0
	fi
	systemctl enable causeway-agent.service
	# Without /etc/causeway/agent.yaml the unit's condition keeps it from starting.
	systemctl start --no-block causeway-agent.service
	exit 0
fi
# In an image that is being made it is enabled, and starts with the host.
if ! $upgrade && command -v systemctl >/dev/null; then
	systemctl enable causeway-agent.service || true
fi
