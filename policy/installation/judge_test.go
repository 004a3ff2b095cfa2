package installation

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/phrase"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// well is an installation that works.
func well() *Facts {
	certificate := Certificate{Secret: "causeway-xds-tls", Names: []string{"causeway.causeway-system.svc"}, NotAfter: now.AddDate(0, 2, 0), CA: true}
	return &Facts{
		Namespace: "causeway-system", Unknown: map[Part]string{}, Kubernetes: "v1.37.2",
		CRDs:       []CRD{{Name: "meshes.mesh.causeway.dev", Installed: true, Served: true}},
		Gateway:    GatewayAPI{Installed: 8, Kinds: 8, Channels: []string{"experimental"}, Versions: []string{"v1.7.0"}},
		Rights:     []Right{{Who: ControlPlane, Verb: "list", Resource: "services", Allowed: true}, {Who: You, Verb: "list", Resource: "pods", Allowed: true}},
		Deployment: Deployment{Found: true, Wanted: 2, Ready: 2, Updated: 2},
		Lease:      Lease{Holder: "causeway-a-1", Renewed: now.Add(-2 * time.Second), Seconds: 15},
		XDS:        certificate, Service: Service{Found: true, Ready: 2},
		Webhook:    &Webhook{FailurePolicies: []string{"Fail"}, Trusted: true, Certificate: Certificate{Secret: "causeway-inject-tls", NotAfter: now.AddDate(0, 2, 0)}, Service: Service{Found: true, Ready: 2}},
		Injected:   []Pod{{ID: "1", Namespace: "web", Name: "php-1", Workload: "php"}},
		Namespaces: []Namespace{{Name: "web", Secret: "causeway-proxy-tls", SecretFound: true, Members: 3}},
		Replicas: []Replica{
			{Name: "causeway-a", Version: "v0.2.0", Serving: true, Sources: []Source{{Name: "kubernetes/services"}}, Envoys: []Envoy{{ID: "sidecar~web~php~1", Version: "1.40.0"}}},
			{Name: "causeway-b", Version: "v0.2.0", Serving: true, Sources: []Source{{Name: "kubernetes/services"}}},
		},
	}
}

func TestWhatWorks(t *testing.T) {
	results := Judge(well(), now)
	require.Equal(t, OK, Worst(results), "%+v", results)
	var out bytes.Buffer
	table := phrase.NewTable(&out)
	Print(table, results)
	require.NoError(t, table.Flush())
	require.Equal(t, `  ok         Kubernetes is v1.37.2
  ok         all 1 CRDs are of this version
  ok         the Gateway API is v1.7.0, experimental
  ok         the control plane and you have the rights that they need (2)
  ok         2 of 2 replicas are ready
  ok         all that answer are of version v0.2.0
  ok         causeway-a-1 leads
  ok         xDS: the certificate in Secret causeway-xds-tls is good until
             2027-01-30
  ok         the Service causeway reaches 2 replicas
  ok         injection: the certificate in Secret causeway-inject-tls is good
             until 2027-01-30
  ok         3 pods of 1 namespace injected, and none is missing
  ok         Envoys are connected: 1 of 1.40.0
  ok         all sources are read (2)

it works
`, out.String())
}

// Each fault is told with its verdict, the figure and the remedy.
func TestWhatDoesNotWork(t *testing.T) {
	for name, c := range map[string]struct {
		break_  func(*Facts)
		verdict Verdict
		says    string
		remedy  string
	}{
		"an old Kubernetes":     {func(f *Facts) { f.Kubernetes = "v1.28.4" }, Failed, "Kubernetes is v1.28.4, and lacks", "upgrade it to 1.30"},
		"a Kubernetes of EKS":   {func(f *Facts) { f.Kubernetes = "v1.31.2-eks-7f9249a" }, OK, "Kubernetes is v1.31.2-eks", ""},
		"no version":            {func(f *Facts) { f.Kubernetes = "v0.0.0-master" }, Warning, "which is no release", "1.30"},
		"no CRD":                {func(f *Facts) { f.CRDs[0].Installed = false }, Failed, "CRDs are not there: meshes.mesh.causeway.dev", applyCRDs},
		"an old CRD":            {func(f *Facts) { f.CRDs[0].Lacks = []string{"spec.ec2"} }, Failed, "meshes.mesh.causeway.dev (no spec.ec2)", applyCRDs},
		"a new CRD":             {func(f *Facts) { f.CRDs[0].Extra = []string{"spec.more"} }, Warning, "CRDs are newer than this causeway", "use the causeway"},
		"no Gateway API":        {func(f *Facts) { f.Gateway = GatewayAPI{Kinds: 8} }, Warning, "the Gateway API is not installed", "gateway-api/experimental"},
		"a half Gateway API":    {func(f *Facts) { f.Gateway.Installed = 4 }, Warning, "has 4 of the 8 kinds", "gateway-api/experimental"},
		"two channels":          {func(f *Facts) { f.Gateway.Channels = []string{"standard", "experimental"} }, Warning, "a mixture of standard, experimental", "one channel"},
		"a right":               {func(f *Facts) { f.Rights[0].Allowed = false }, Failed, "the control plane may not list services", "rbac.yaml"},
		"a right that may lack": {func(f *Facts) { f.Rights[0].Allowed, f.Rights[0].Optional = false, true }, Warning, "the control plane may not list services", "rbac.yaml"},
		"no right of mine":      {func(f *Facts) { f.Rights[1].Allowed, f.Rights[1].Optional = false, true }, Warning, "you may not list pods", "ask for these"},
		"nothing installed":     {func(f *Facts) { f.Deployment = Deployment{} }, Failed, "there is no Deployment causeway-system/causeway", "--causeway-namespace"},
		"no replica":            {func(f *Facts) { f.Ready = 0 }, Failed, "0 of 2 replicas are ready", "describe pods"},
		"half the replicas":     {func(f *Facts) { f.Ready = 1 }, Failed, "1 of 2 replicas are ready", "describe pods"},
		"a rollout that stands": {func(f *Facts) { f.Updated = 1 }, Failed, "2 of 2 replicas are ready, 1 of the newest template", "describe pods"},
		"one replica":           {func(f *Facts) { f.Deployment = Deployment{Found: true, Wanted: 1, Ready: 1, Updated: 1} }, Warning, "1 replica is ready", "two"},
		"two versions":          {func(f *Facts) { f.Replicas[1].Version = "v0.1.0" }, Warning, "several versions: v0.2.0, v0.1.0", "rollout status"},
		"a silent replica":      {func(f *Facts) { f.Replicas[1] = Replica{Name: "causeway-b", Problem: "port-forward"} }, Failed, "replica causeway-b does not answer: port-forward", "logs causeway-b"},
		"a replica that waits":  {func(f *Facts) { f.Replicas[1].Serving, f.Replicas[1].WaitsFor = false, []string{"ec2"} }, Failed, "it waits for ec2", "logs causeway-b"},
		"no leader":             {func(f *Facts) { f.Holder = "" }, Failed, "nobody leads", "grep -i lead"},
		"a leader that died":    {func(f *Facts) { f.Renewed = now.Add(-time.Minute) }, Failed, "has not renewed its Lease for 1m", "grep -i lead"},
		"no certificate":        {func(f *Facts) { f.XDS.Problem = "there is no Secret a/b" }, Failed, "xDS: there is no Secret a/b", "Certificates"},
		"no CA":                 {func(f *Facts) { f.XDS.CA = false }, Failed, "has no ca.crt", "CA of the proxies"},
		"another name":          {func(f *Facts) { f.XDS.Names = []string{"xds.example.com"} }, Warning, "not causeway.causeway-system.svc", "Certificates"},
		"an old certificate":    {func(f *Facts) { f.XDS.NotAfter = now.Add(-time.Hour) }, Failed, "ended on 2026-11-30", "renew it"},
		"a late certificate":    {func(f *Facts) { f.XDS.NotAfter = now.AddDate(0, 0, 5) }, Warning, "ends in 5d0h, on 2026-12-05", "renew it"},
		"no Service":            {func(f *Facts) { f.Service = Service{} }, Failed, "there is no Service causeway-system/causeway", "service.yaml"},
		"a Service of nobody":   {func(f *Facts) { f.Service.Ready = 0 }, Failed, "reaches 0 of 2 ready replicas", "endpointslices"},
		"no webhook":            {func(f *Facts) { f.Webhook = nil }, Failed, "1 namespaces have opted in, and there is no webhook", "inject.enabled"},
		"an unknown CA":         {func(f *Facts) { f.Webhook.Trusted = false }, Failed, "do not trust the webhook's certificate", "logs"},
		"a webhook of nobody":   {func(f *Facts) { f.Webhook.Service.Ready = 0 }, Failed, "causeway-inject reaches no replica", "--inject-listen"},
		"a webhook that lets":   {func(f *Facts) { f.Webhook.FailurePolicies = []string{"Ignore"} }, Warning, "failurePolicy is Ignore", "write Fail"},
		"no published CA":       {func(f *Facts) { f.Namespaces[0].Secret = "" }, Failed, "namespace web has no ConfigMap causeway-ca", "grep -i verify"},
		"a published CA":        {func(f *Facts) { f.Namespaces[0].Secret, f.Namespaces[0].CAFound = "", true }, OK, "none is missing", ""},
		"one that is made":      {func(f *Facts) { f.XDS.CA, f.XDS.Made = false, true }, OK, "xDS: the certificate in Secret", ""},
		"no proxy's Secret":     {func(f *Facts) { f.Namespaces[0].SecretFound = false }, Failed, "namespace web has no Secret causeway-proxy-tls", "kubectl -n web create secret"},
		"a misspelled label": {
			func(f *Facts) { f.Misspelled = []Misspelled{{"Namespace shop", "its label is wrong", "write another"}} }, Warning, "Namespace shop: its label is wrong", "write another",
		},
		"who is missing":       {func(f *Facts) { f.Absent = []Pod{{"1", "web", "php-1", "php", "it is old", "roll out"}} }, Failed, "1 pod of web/php is no member: it is old", "roll out"},
		"who is not connected": {func(f *Facts) { f.Injected[0].ID = "2" }, Warning, "1 pod of web/php is no member: it is injected and not connected", "kubectl -n web logs php-1 -c causeway-proxy"},
		"a proxy that refuses": {func(f *Facts) { f.Replicas[0].Envoys[0].Refused = "Cluster a: bad" }, Failed, "sidecar~web~php~1 refuses its configuration: Cluster a: bad", "causeway proxies"},
		"an old Envoy":         {func(f *Facts) { f.Replicas[0].Envoys[0].Version = "1.38.0" }, Warning, "1 proxies are Envoy 1.38.0", "upgrade them to 1.40"},
		"a source":             {func(f *Facts) { f.Replicas[1].Sources[0].Error = "403" }, Failed, "replica causeway-b cannot read kubernetes/services: 403", "causeway status"},
		"a Mesh":               {func(f *Facts) { f.Replicas[0].Mesh = []string{"Mesh mesh: NotProgrammed"} }, Failed, "Mesh mesh: NotProgrammed", "explain object"},
	} {
		t.Run(name, func(t *testing.T) {
			f := well()
			c.break_(f)
			results := Judge(f, now)
			require.Equal(t, c.verdict, Worst(results), "%+v", results)
			found := false
			for _, r := range results {
				if strings.Contains(r.Fact, c.says) {
					found = true
					require.Equal(t, c.verdict, r.Verdict)
					require.Contains(t, r.Remedy, c.remedy)
					if c.verdict != OK {
						require.NotEmpty(t, r.Remedy)
					}
				}
			}
			require.True(t, found, "%+v", results)
		})
	}
}

// What could not be read is told, is no failure, and is not judged.
func TestWhatIsNotKnown(t *testing.T) {
	f := &Facts{Namespace: "causeway-system", Unknown: make(map[Part]string)}
	for _, part := range []Part{Kubernetes, CRDs, Gateway, Rights, Replicas, Leader, TLS, XDSService, Injection, Members} {
		f.Unknown[part] = "services is forbidden: User \"jane\" cannot list resource \"services\" in API group \"\" at the cluster scope"
	}
	results := Judge(f, now)
	require.Len(t, results, len(f.Unknown))
	require.Equal(t, Warning, Worst(results))
	var out bytes.Buffer
	table := phrase.NewTable(&out)
	Print(table, results)
	require.NoError(t, table.Flush())
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(line), 81, line)
	}
	require.Contains(t, out.String(), "nothing failed; 10 warnings")
}
