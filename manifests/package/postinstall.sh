#!/bin/sh
# Runs after an installation and after an upgrade, as root.
set -e
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
	systemctl enable causeway-agent.service
	# Without /etc/causeway/agent.yaml the unit's condition keeps it from starting.
	systemctl start --no-block causeway-agent.service
	exit 0
fi
# In an image that is being made it is enabled, and starts with the host.
command -v systemctl >/dev/null && systemctl enable causeway-agent.service || true
