package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/resource"
)

func bootstrapCommand() *cobra.Command {
	p, out := proxyFlags{}, ""
	c := &cobra.Command{
		Use:   "bootstrap",
		Short: "Print the bootstrap of an Envoy that joins the mesh",
		Long: `Print the static configuration with which an Envoy on a host or in a pod joins
the mesh. The host's own processes then reach every Service through
http_proxy=http://127.0.0.1:15001, and TCP Services through the listeners that
--tcp-listen declares.

On an EC2 host, as user data or from a unit file:

  causeway bootstrap --namespace web --workload php-web \
    --id "$(ec2-metadata --instance-id)" \
    --zone "$(ec2-metadata --availability-zone)" \
    --server causeway.internal:18000 \
    --tls-ca /etc/causeway/ca.crt --tls-server-name causeway.internal \
    --tls-cert /etc/causeway/tls.crt --tls-key /etc/causeway/tls.key \
    --tcp-listen 127.0.0.1:3306=data/mysql:3306 > /etc/envoy/envoy.yaml

In a pod, from an init container whose variables the downward API fills in:

  causeway bootstrap --namespace web --workload php-web --id "$POD_UID" \
    --zone "$ZONE" --node-name "$NODE_NAME" \
    --server causeway.causeway-system.svc:18000 ... --out /etc/envoy

For an edge, an Envoy that serves a Gateway, --workload is the Gateway's name.
It serves every port of it at its own number on an address, or those that are
named:

  causeway bootstrap --role gateway --namespace web --workload edge \
    --id "$(ec2-metadata --instance-id)" --server causeway.internal:18000 ... \
    --gateway-listen 0.0.0.0:8080=80 --gateway-listen 0.0.0.0:8443=443 \
    --health-listen 0.0.0.0:8081`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := p.options(cmd.Flags())
			if out != "" {
				return bootstrap.Write(o, out)
			}
			config, err := bootstrap.Generate(o)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(config)
			return err
		},
	}
	f := c.Flags()
	p.add(f)
	f.StringVar(&out, "out", "", "directory to write to instead of printing; with TLS, Envoy then takes renewed certificates without a restart")
	return c
}

// proxyFlags say which proxy it is.
type proxyFlags struct {
	bootstrap.Options
	role string
	tls  bootstrap.TLS
}

func (p *proxyFlags) add(f *pflag.FlagSet) {
	f.StringVar(&p.role, "role", string(resource.Sidecar), "what the proxy does: sidecar or gateway")
	f.StringVar(&p.Namespace, "namespace", "", "namespace of the workload (required)")
	f.StringVar(&p.Workload, "workload", "", "name of the workload, for example of its auto scaling group or Deployment (required)")
	f.StringVar(&p.Instance, "id", "", "instance id or pod uid (required)")
	f.StringVar(&p.Service, "service", "", "Service that the workload belongs to (default: the workload's name)")
	f.StringVar(&p.Region, "region", "", "AWS region")
	f.StringVar(&p.Zone, "zone", "", "availability zone; callers prefer endpoints of their own")
	f.StringVar(&p.NodeName, "node-name", "", "in a pod, the Kubernetes node that it runs on, from the field spec.nodeName: "+
		"Services with internalTrafficPolicy: Local answer from that node alone, those with trafficDistribution: PreferSameNode from there first")
	f.StringSliceVar(&p.Servers, "server", []string{defaultXDSListen}, "HOST:PORT of the control plane; repeat for several")
	f.StringVar(&p.HTTPListen, "http-listen", bootstrap.DefaultHTTPListen, "where the host's processes reach the mesh over HTTP; empty for nowhere")
	f.StringSliceVar(&p.TCPListen, "tcp-listen", nil, "ADDRESS:PORT=NAMESPACE/SERVICE:PORT, a loopback listener for a TCP Service; repeat for several")
	f.StringArrayVar(&p.CapturedListen, "captured-listen", nil, "ADDRESS:PORT=CIDR,CIDR, where the host redirects connections to; "+
		"those to these ranges are for Services; repeat for IPv6")
	f.StringArrayVar(&p.InboundListen, "inbound-listen", nil, "ADDRESS:PORT=PORT/PROTOCOL,PORT, where the pod redirects connections to its applications' ports to; "+
		"http, grpc, tcp, or found out; repeat for IPv6")
	f.StringSliceVar(&p.GatewayListen, "gateway-listen", nil,
		"with --role gateway: ADDRESS for every port of the Gateway, or ADDRESS:PORT=NUMBER for one; repeat for several")
	f.StringVar(&p.HealthListen, "health-listen", "", "with --role gateway: ADDRESS:PORT where load balancers ask for "+bootstrap.HealthPath)
	f.StringVar(&p.AdminListen, "admin-listen", "127.0.0.1:15000", "Envoy's admin interface, loopback only; empty for none")
	f.StringVar(&p.SystemCAs, "system-cas", bootstrap.SystemCAs(), "file with the CA certificates that this host trusts, for TLS to targets outside the mesh; empty for none")
	f.StringVar(&p.tls.CA, "tls-ca", "", "file with the CA of the control plane's certificate")
	f.StringVar(&p.tls.ServerName, "tls-server-name", "", "DNS name in the control plane's certificate")
	f.StringVar(&p.tls.Cert, "tls-cert", "", "file with the proxy's certificate")
	f.StringVar(&p.tls.Key, "tls-key", "", "file with the proxy's key")
}

// options returns the options that the flags of a command say.
func (p *proxyFlags) options(f *pflag.FlagSet) bootstrap.Options {
	o := p.Options
	o.Role = resource.Role(p.role)
	if o.Role == resource.Gateway && !f.Changed("http-listen") {
		o.HTTPListen = ""
	}
	if p.tls != (bootstrap.TLS{}) {
		o.TLS = &p.tls
	}
	return o
}
