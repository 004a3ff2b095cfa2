package installation

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/phrase"
)

// Verdict on a fact.
type Verdict string

// All verdicts.
const (
	OK      Verdict = "ok"
	Warning Verdict = "warning"
	Failed  Verdict = "failed"
)

// Result is a fact with its verdict, and what to do where it is not well.
type Result struct {
	Part    Part    `json:"part"`
	Verdict Verdict `json:"verdict"`
	Fact    string  `json:"fact"`
	Remedy  string  `json:"remedy,omitempty"`
}

// Judge judges all facts, in the order in which they build on each other.
func Judge(f *Facts, now time.Time) []Result {
	j := &judge{Facts: f, now: now}
	for _, part := range []struct {
		name  Part
		judge func()
	}{
		{Kubernetes, j.kubernetes},
		{CRDs, j.crds},
		{Gateway, j.gateway},
		{Rights, j.rights},
		{Replicas, j.replicas},
		{Leader, j.leader},
		{TLS, j.certificate},
		{XDSService, j.service},
		{Injection, j.injection},
		{Members, j.members},
		{Proxies, j.proxies},
		{Sources, j.sources},
		{MeshObject, j.mesh},
	} {
		j.part = part.name
		if why := f.Unknown[part.name]; why != "" {
			j.say(Warning, "not known: "+why, "")
		}
		part.judge()
	}
	return j.results
}

// Worst is the worst verdict among results.
func Worst(results []Result) Verdict {
	worst := OK
	for _, r := range results {
		if r.Verdict == Failed || r.Verdict == Warning && worst == OK {
			worst = r.Verdict
		}
	}
	return worst
}

type judge struct {
	*Facts
	now     time.Time
	part    Part
	results []Result
}

func (j *judge) say(v Verdict, fact, remedy string) {
	j.results = append(j.results, Result{j.part, v, fact, remedy})
}

// known reports whether the part was read.
func (j *judge) known() bool { return j.Unknown[j.part] == "" }

var release = regexp.MustCompile(`^v?1\.(\d+)`)

// oldest is the first minor version of Kubernetes that has all that the control plane needs: admission policies since
// 1.30. Sidecar containers are older.
const oldest = 30

func (j *judge) kubernetes() {
	m := release.FindStringSubmatch(j.Kubernetes)
	switch {
	case !j.known():
	case m == nil:
		j.say(Warning, fmt.Sprintf("the API server says that it is %q, which is no release", j.Kubernetes), fmt.Sprintf("see that it is 1.%d or newer", oldest))
	default:
		if minor, _ := strconv.Atoi(m[1]); minor < oldest { // they are digits
			j.say(Failed, fmt.Sprintf("Kubernetes is %s, and lacks admission policies or sidecar containers", j.Kubernetes), fmt.Sprintf("upgrade it to 1.%d or newer", oldest))
			return
		}
		j.say(OK, "Kubernetes is "+j.Kubernetes, "")
	}
}

const applyCRDs = "kubectl apply --server-side -f manifests/crds"

func (j *judge) crds() {
	var absent, differ []string
	newer := false
	for _, c := range j.CRDs {
		switch {
		case !c.Installed || !c.Served:
			absent = append(absent, c.Name)
		case len(c.Lacks) > 0:
			differ = append(differ, fmt.Sprintf("%s (no %s)", c.Name, phrase.Few(c.Lacks)))
		case len(c.Extra) > 0:
			newer = true
		}
	}
	switch {
	case !j.known():
	case len(absent) > 0:
		j.say(Failed, "CRDs are not there: "+phrase.Few(absent), applyCRDs)
	case len(differ) > 0:
		j.say(Failed, "CRDs are older than this causeway: "+phrase.Few(differ)+". The API server drops what they lack", applyCRDs)
	case newer:
		j.say(Warning, "CRDs are newer than this causeway", "use the causeway of the control plane's version")
	default:
		j.say(OK, fmt.Sprintf("all %d CRDs are of this version", len(j.CRDs)), "")
	}
}

func (j *judge) gateway() {
	g := &j.Gateway
	const apply = "kubectl apply --server-side -f manifests/gateway-api/experimental"
	switch {
	case !j.known():
	case g.Installed == 0:
		j.say(Warning, "the Gateway API is not installed: there are no routes and no Gateways", apply)
	case len(g.Channels) > 1 || len(g.Versions) > 1:
		j.say(Warning, fmt.Sprintf("the Gateway API is a mixture of %s", strings.Join(slices.Concat(g.Channels, g.Versions), ", ")), "apply all of its CRDs of one channel: "+apply)
	case g.Installed < g.Kinds:
		j.say(Warning, fmt.Sprintf("the Gateway API has %d of the %d kinds that the mesh reads (%s)", g.Installed, g.Kinds, strings.Join(g.Channels, "")), apply)
	default:
		j.say(OK, fmt.Sprintf("the Gateway API is %s, %s", strings.Join(g.Versions, ""), strings.Join(g.Channels, "")), "")
	}
}

func (j *judge) rights() {
	lacks := make(map[string][]string)
	var asked int
	failed := false
	for _, r := range j.Rights {
		asked++
		if r.Allowed {
			continue
		}
		text := r.Verb + " " + r.Resource
		if r.Namespace != "" {
			text += " in " + r.Namespace
		}
		lacks[r.Who] = append(lacks[r.Who], text)
		failed = failed || !r.Optional
	}
	if len(lacks) == 0 {
		if asked > 0 {
			j.say(OK, fmt.Sprintf("the control plane and you have the rights that they need (%d)", asked), "")
		}
		return
	}
	verdict := Warning
	if failed {
		verdict = Failed
	}
	if missing := lacks[ControlPlane]; len(missing) > 0 {
		j.say(verdict, "the control plane may not "+phrase.Few(missing), "kubectl apply --server-side -f manifests/install/rbac.yaml, or rbac.create of the chart")
	}
	if missing := lacks[You]; len(missing) > 0 {
		j.say(Warning, "you may not "+phrase.Few(missing)+", so some of this is not known", "ask for these rights, or let somebody who has them run this")
	}
}

// Who has rights.
const (
	ControlPlane = "the control plane"
	You          = "you"
)

func (j *judge) replicas() {
	d := &j.Deployment
	look := fmt.Sprintf("kubectl -n %s describe pods -l app.kubernetes.io/name=causeway", j.Namespace)
	switch {
	case !j.known():
		return
	case !d.Found:
		j.say(Failed, "there is no Deployment "+j.Namespace+"/causeway", "install it (docs/kubernetes.md), or name its namespace with --causeway-namespace")
		return
	case d.Ready == 0:
		j.say(Failed, fmt.Sprintf("0 of %d replicas are ready", d.Wanted), look)
	case d.Ready < d.Wanted || d.Updated < d.Wanted:
		j.say(Failed, fmt.Sprintf("%d of %d replicas are ready, %d of the newest template", d.Ready, d.Wanted, d.Updated), look)
	case d.Wanted == 1:
		j.say(Warning, "1 replica is ready: while it restarts nothing changes in the mesh, and no pod is injected", "let there be two (replicas)")
	default:
		j.say(OK, fmt.Sprintf("%d of %d replicas are ready", d.Ready, d.Wanted), "")
	}
	var versions []string
	for _, r := range j.Replicas {
		switch {
		case r.Problem != "":
			j.say(Failed, fmt.Sprintf("replica %s does not answer: %s", r.Name, r.Problem), fmt.Sprintf("kubectl -n %s logs %s", j.Namespace, r.Name))
		case !r.Serving:
			j.say(Failed, fmt.Sprintf("replica %s serves nothing yet: it waits for %s", r.Name, phrase.Few(r.WaitsFor)), fmt.Sprintf("kubectl -n %s logs %s", j.Namespace, r.Name))
		}
		if r.Version != "" && !slices.Contains(versions, r.Version) {
			versions = append(versions, r.Version)
		}
	}
	switch {
	case len(versions) > 1:
		j.say(Warning, "replicas are of several versions: "+strings.Join(versions, ", "), fmt.Sprintf("kubectl -n %s rollout status deployment/causeway", j.Namespace))
	case len(versions) == 1:
		j.say(OK, "all that answer are of version "+versions[0], "")
	}
}

func (j *judge) leader() {
	l := &j.Lease
	remedy := fmt.Sprintf("kubectl -n %s logs -l app.kubernetes.io/name=causeway | grep -i lead", j.Namespace)
	age := j.now.Sub(l.Renewed)
	switch {
	case !j.known():
	case l.Holder == "":
		j.say(Failed, "nobody leads: no status is written and EC2 is not read", remedy)
	case age > 2*time.Duration(l.Seconds)*time.Second:
		j.say(Failed, fmt.Sprintf("%s leads and has not renewed its Lease for %s", l.Holder, phrase.Roughly(age)), remedy)
	default:
		j.say(OK, l.Holder+" leads", "")
	}
}

// soon is how long before its end a certificate is worth a warning.
const soon = 14 * 24 * time.Hour

func (j *judge) certificate() {
	if !j.known() {
		return
	}
	c := &j.XDS
	issue := "issue it (docs/kubernetes.md, Certificates)"
	name := "causeway." + j.Namespace + ".svc"
	switch {
	case c.Problem != "":
		j.say(Failed, "xDS: "+c.Problem, issue)
		return
	case !c.CA && !c.Made:
		j.say(Failed, fmt.Sprintf("Secret %s has no ca.crt: no proxy can prove who it is", c.Secret), "put the CA of the proxies' certificates into it")
	case !slices.Contains(c.Names, name):
		j.say(Warning, fmt.Sprintf("the certificate in Secret %s has the names %s, and not %s, by which pods call", c.Secret, phrase.Few(c.Names), name), issue)
	}
	j.lifetime("xDS", c)
}

func (j *judge) lifetime(what string, c *Certificate) {
	left := c.NotAfter.Sub(j.now)
	text := fmt.Sprintf("%s: the certificate in Secret %s", what, c.Secret)
	until := c.NotAfter.UTC().Format(time.DateOnly)
	renew := "renew it, and see why it was not (kubectl -n " + j.Namespace + " get secret " + c.Secret + ")"
	switch {
	case left <= 0:
		j.say(Failed, fmt.Sprintf("%s ended on %s", text, until), renew)
	case left < soon:
		j.say(Warning, fmt.Sprintf("%s ends in %s, on %s", text, phrase.Roughly(left), until), renew)
	default:
		j.say(OK, fmt.Sprintf("%s is good until %s", text, until), "")
	}
}

func (j *judge) service() {
	switch {
	case !j.known():
	case !j.Service.Found:
		j.say(Failed, "there is no Service "+j.Namespace+"/causeway: pods do not find the control plane", "kubectl apply --server-side -f manifests/install/service.yaml")
	case j.Service.Ready < j.Ready:
		j.say(Failed, fmt.Sprintf("the Service causeway reaches %d of %d ready replicas", j.Service.Ready, j.Ready),
			fmt.Sprintf("kubectl -n %s get endpointslices -l kubernetes.io/service-name=causeway", j.Namespace))
	case j.Service.Ready > 0:
		j.say(OK, fmt.Sprintf("the Service causeway reaches %d replicas", j.Service.Ready), "")
	}
}

func (j *judge) injection() {
	w := j.Webhook
	switch {
	case !j.known():
		return
	case w == nil && len(j.Namespaces) > 0:
		j.say(Failed, fmt.Sprintf("%d namespaces have opted in, and there is no webhook: their new pods are not members", len(j.Namespaces)),
			"install injection (docs/members.md): inject.enabled of the chart, or the component manifests/inject")
		return
	case w == nil:
		j.say(OK, "pods are not injected: there is no webhook", "")
		return
	}
	logs := fmt.Sprintf("kubectl -n %s logs -l app.kubernetes.io/name=causeway | grep injection", j.Namespace)
	switch {
	case w.Certificate.Problem != "":
		j.say(Failed, "injection: "+w.Certificate.Problem, logs)
	case !w.Trusted:
		j.say(Failed, "API servers do not trust the webhook's certificate: its caBundle is not the one in Secret "+w.Certificate.Secret, logs)
	default:
		j.lifetime("injection", &w.Certificate)
	}
	if w.Service.Ready == 0 {
		j.say(Failed, "the Service causeway-inject reaches no replica: pods of namespaces that have opted in are not made",
			fmt.Sprintf("see that replicas have --inject-listen: kubectl -n %s get deployment causeway -o yaml", j.Namespace))
	}
	if slices.Contains(w.FailurePolicies, "Ignore") {
		j.say(Warning, "failurePolicy is Ignore: while no replica answers, pods start that pass the mesh by in silence", "write Fail, unless that is meant")
	}
}

func (j *judge) members() {
	pods, without := 0, 0
	for _, n := range j.Namespaces {
		pods += n.Members
		if n.Secret == "" && !n.CAFound {
			without++
			j.say(Failed, fmt.Sprintf("namespace %s has no ConfigMap causeway-ca: its injected pods wait in ContainerCreating", n.Name),
				fmt.Sprintf("the leader publishes it: kubectl -n %s logs -l app.kubernetes.io/name=causeway | grep -i verify", j.Namespace))
		}
		if n.Secret != "" && !n.SecretFound {
			without++
			j.say(Failed, fmt.Sprintf("namespace %s has no Secret %s: its injected pods wait in ContainerCreating", n.Name, n.Secret),
				fmt.Sprintf("kubectl -n %s create secret generic %s --from-file=tls.crt --from-file=tls.key --from-file=ca.crt", n.Name, n.Secret))
		}
	}
	for _, m := range j.Misspelled {
		j.say(Warning, m.Object+": "+m.Reason, m.Remedy)
	}
	for _, g := range Grouped(j.Absent) {
		j.say(Failed, g.Text(), g.Remedy)
	}
	unconnected := Grouped(Unconnected(j.Injected, j.connected()))
	if !j.allAnswer() {
		unconnected = nil // they may be at the one that does not answer
	}
	for _, g := range unconnected {
		j.say(Warning, g.Text(), g.Remedy)
	}
	if len(j.Namespaces) > 0 && without == 0 && len(j.Absent) == 0 && len(unconnected) == 0 && j.known() {
		j.say(OK, fmt.Sprintf("%s of %s injected, and none is missing", phrase.Plural(pods, "pods"), phrase.Plural(len(j.Namespaces), "namespaces")), "")
	}
}

// connected lists the node ids of all connected Envoys.
func (j *judge) connected() []string {
	var out []string
	for _, r := range j.Replicas {
		for _, e := range r.Envoys {
			out = append(out, e.ID)
		}
	}
	return out
}

func (j *judge) allAnswer() bool {
	return len(j.Replicas) > 0 && !slices.ContainsFunc(j.Replicas, func(r Replica) bool { return r.Problem != "" })
}

func (j *judge) proxies() {
	versions := make(map[string]int)
	told := 0
	for _, r := range j.Replicas {
		for _, e := range r.Envoys {
			versions[e.Version]++
			if e.Refused == "" {
				continue
			}
			if told++; told <= 3 {
				j.say(Failed, fmt.Sprintf("%s refuses its configuration: %s", e.ID, e.Refused), "causeway proxies --all, with the same flags")
			}
		}
	}
	if told > 3 {
		j.say(Failed, fmt.Sprintf("%d proxies refuse their configuration, these among them", told), "causeway proxies, with the same flags")
	}
	var list []string
	for v, n := range versions {
		list = append(list, fmt.Sprintf("%d of %s", n, v))
		if m := release.FindStringSubmatch(v); m != nil {
			if minor, _ := strconv.Atoi(m[1]); minor < oldestEnvoy {
				j.say(Warning, fmt.Sprintf("%d proxies are Envoy %s, which refuses some of what is sent", n, v), fmt.Sprintf("upgrade them to 1.%d", oldestEnvoy))
			}
		}
	}
	slices.Sort(list)
	switch {
	case len(list) > 0 && told == 0:
		j.say(OK, "Envoys are connected: "+strings.Join(list, ", "), "")
	case len(list) == 0 && slices.ContainsFunc(j.Replicas, func(r Replica) bool { return r.Problem == "" }):
		j.say(OK, "no Envoy is connected yet", "")
	}
}

// oldestEnvoy is the first minor version that takes all that is sent.
const oldestEnvoy = 40

func (j *judge) sources() {
	bad, good := 0, 0
	for _, r := range j.Replicas {
		for _, s := range r.Sources {
			if s.Error == "" {
				good++
				continue
			}
			bad++
			j.say(Failed, fmt.Sprintf("replica %s cannot read %s: %s", r.Name, s.Name, s.Error), "causeway status, with the same flags; docs/operations.md has each source")
		}
	}
	if good > 0 && bad == 0 {
		j.say(OK, fmt.Sprintf("all sources are read (%d)", good), "")
	}
}

func (j *judge) mesh() {
	var told []string
	for _, r := range j.Replicas {
		for _, text := range r.Mesh {
			if !slices.Contains(told, text) {
				told = append(told, text)
				j.say(Failed, text, "causeway explain object Mesh NAME, with the same flags")
			}
		}
	}
}
