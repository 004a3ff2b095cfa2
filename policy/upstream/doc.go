// Package upstream says what requests can be sent to: the ports, backings,
// shares, failover and endpoints of a Service, ExternalServices, and the TLS that
// each wants. It reads the catalog and knows nothing of routes, so that the
// reader of routes can ask it.
package upstream
