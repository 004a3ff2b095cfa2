package manifests_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	lua "github.com/yuin/gopher-lua"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/conditions"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/rows"
	"github.com/causeway-mesh/causeway/xds/observe"
)

// argo is what the ConfigMap argocd-cm says.
type argo struct {
	health map[string]string
	// discovery and actions are those of a TrafficShift.
	discovery string
	actions   map[string]string
}

func readArgo(t *testing.T) *argo {
	t.Helper()
	var cm corev1.ConfigMap
	require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, "manifests", "argocd", "argocd-cm.yaml")), &cm))
	out := &argo{health: make(map[string]string), actions: make(map[string]string)}
	for key, text := range cm.Data {
		if kind, ok := strings.CutPrefix(key, "resource.customizations.health.mesh.causeway.dev_"); ok {
			out.health[kind] = text
			continue
		}
		require.Equal(t, "resource.customizations.actions.mesh.causeway.dev_TrafficShift", key)
		var actions struct {
			Discovery   string `json:"discovery.lua"`
			Definitions []struct {
				Name   string `json:"name"`
				Action string `json:"action.lua"`
			} `json:"definitions"`
		}
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), &actions))
		out.discovery = actions.Discovery
		for _, d := range actions.Definitions {
			out.actions[d.Name] = d.Action
		}
	}
	return out
}

// runArgo runs a script as Argo CD does (argo-cd, util/lua): with the base and table libraries, and of os with time
// and date alone, for a second at most. It returns the table that the script returns.
func runArgo(t *testing.T, script string, obj map[string]any) any {
	t.Helper()
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for _, lib := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.OsLibName, lua.OpenOs},
	} {
		require.NoError(t, l.CallByParam(lua.P{Fn: l.NewFunction(lib.open), Protect: true}, lua.LString(lib.name)))
	}
	os := l.GetGlobal(lua.OsLibName).(*lua.LTable)
	var unsafe []string
	os.ForEach(func(name, _ lua.LValue) {
		if n := name.String(); n != "time" && n != "date" {
			unsafe = append(unsafe, n)
		}
	})
	for _, name := range unsafe {
		os.RawSetString(name, lua.LNil)
	}
	l.SetContext(t.Context())
	l.SetGlobal("obj", toLua(l, obj))
	require.NoError(t, l.DoString(script))
	result := l.Get(-1)
	require.Equal(t, lua.LTTable, result.Type())
	return fromLua(result)
}

// toLua and fromLua go between objects and Lua as Argo CD does: a table that is empty comes back as a list.
func toLua(l *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case bool:
		return lua.LBool(v)
	case float64:
		return lua.LNumber(v)
	case int64:
		return lua.LNumber(v)
	case string:
		return lua.LString(v)
	case []any:
		out := l.CreateTable(len(v), 0)
		for _, item := range v {
			out.Append(toLua(l, item))
		}
		return out
	case map[string]any:
		out := l.CreateTable(0, len(v))
		for key, item := range v {
			out.RawSetH(lua.LString(key), toLua(l, item))
		}
		return out
	}
	return lua.LNil
}

func fromLua(v lua.LValue) any {
	switch v := v.(type) {
	case lua.LBool:
		return bool(v)
	case lua.LNumber:
		return float64(v)
	case lua.LString:
		return string(v)
	case *lua.LTable:
		if key, _ := v.Next(lua.LNil); key == lua.LNil || key.Type() == lua.LTNumber {
			out := make([]any, 0, v.Len())
			v.ForEach(func(_, item lua.LValue) { out = append(out, fromLua(item)) })
			return out
		}
		out := make(map[string]any)
		v.ForEach(func(key, item lua.LValue) { out[key.String()] = fromLua(item) })
		return out
	}
	return nil
}

// health returns what Argo CD says of an object.
func (a *argo) of(t *testing.T, kind string, obj map[string]any) (status, message string) {
	t.Helper()
	require.Contains(t, a.health, kind)
	out := runArgo(t, a.health[kind], obj).(map[string]any)
	status, _ = out["status"].(string)
	message, _ = out["message"].(string)
	require.Contains(t, []string{"Healthy", "Progressing", "Suspended", "Degraded"}, status, "Argo CD's words")
	require.NotEmpty(t, message)
	return status, message
}

func asMap(t *testing.T, v any) map[string]any {
	t.Helper()
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(v)
	require.NoError(t, err)
	return out
}

// Every kind of ours has a health check.
func TestArgoKnowsEveryKind(t *testing.T) {
	t.Parallel()
	a := readArgo(t)
	var ours []string
	for _, k := range objects.Kinds() {
		if k.New == nil {
			continue
		}
		if _, ok := k.New().(v1alpha1.Conditioned); ok || k.Name == discovery.KindInstanceGroup {
			ours = append(ours, k.Name)
		}
	}
	require.NotEmpty(t, ours)
	require.ElementsMatch(t, ours, sortedKeys(a.health))
	require.ElementsMatch(t, []string{"promote", "pause", "resume", "rollback"}, sortedKeys(a.actions))
}

// programmedAs returns the condition Programmed of an object's generation as the leader computes it, by what a replica
// reports of its proxies: acknowledged, refused, sent, none (there is no proxy) or silent (there is no report).
func programmedAs(name discovery.ObjectName, generation int64, report string) metav1.Condition {
	now := time.Unix(1_800_000_000, 0)
	object := observe.ObjectSummary{Generation: generation, State: observe.Acknowledged, Index: 7}
	r := observe.Report{Replica: "a", Known: true, Heard: now, Summary: observe.Summary{Proxies: 1, Acknowledged: 7}}
	switch report {
	case "refused":
		object.State, object.Refusal = observe.Refused, &observe.Refusal{Resource: "Listener l", Node: "n", Error: "no such filter"}
	case "sent":
		object.State, object.Laggards, object.Nodes = observe.Pending, 1, []string{"n"}
	case "none":
		r.Summary.Proxies, r.Summary.Acknowledged = 0, 0
	case "silent":
		r.Heard = now.Add(-time.Hour)
	}
	r.Summary.Objects = map[discovery.ObjectName]observe.ObjectSummary{name: object}
	return observe.ProgrammedCondition(observe.Target{Name: name, Generation: generation, Since: now}, []observe.Report{r}, now)
}

const argoMesh = `apiVersion: v1
kind: Service
metadata: {name: php-web, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}
spec: {ports: [{name: http, port: 80}]}
---
`

// What Argo CD says of policies goes by the conditions that the control plane computes.
func TestArgoHealth(t *testing.T) {
	t.Parallel()
	a := readArgo(t)
	const (
		retry = "spec: {targetRefs: [{group: '', kind: Service, name: php-web}], retry: {attempts: 2}}"
		group = "spec: {serviceRef: {name: php-web}, region: ap-northeast-1, selector: {autoScalingGroups: [php]}, ports: [{name: http, port: 80}]}"
	)
	for name, c := range map[string]struct {
		kind, object, proxies string
		want, message         string
	}{
		"a policy":                 {"TrafficPolicy", retry, "acknowledged", "Healthy", "in force"},
		"a policy without proxies": {"TrafficPolicy", retry, "none", "Healthy", "in force"},
		"a policy on its way":      {"TrafficPolicy", retry, "sent", "Progressing", "on its way"},
		"a policy of a lost mesh":  {"TrafficPolicy", retry, "silent", "Progressing", "replica"},
		"a policy that is refused": {"TrafficPolicy", retry, "refused", "Degraded", "no such filter"},
		"a policy of nothing":      {"TrafficPolicy", strings.Replace(retry, "php-web", "other", 1), "acknowledged", "Degraded", "other"},
		"a host":                   {"ExternalService", "spec: {hosts: [pay.example.com], ports: [{number: 443, protocol: TCP}]}", "acknowledged", "Healthy", "in force"},
		"a group":                  {"InstanceGroup", group, "acknowledged", "Healthy", "in force"},
		"a group of nothing":       {"InstanceGroup", strings.Replace(group, "php-web", "other", 1), "acknowledged", "Degraded", "there is no Service web/other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cat := rows.Parse(t, argoMesh+"apiVersion: mesh.causeway.dev/v1alpha1\nkind: "+c.kind+"\nmetadata: {name: a, namespace: web, generation: 3}\n"+c.object+"\n").Catalog(t)
			o, ok := catalog.Objects.Get(cat.Read(), c.kind+" web/a")
			require.True(t, ok)
			status, ok := resolve.StatusOf(cat.Read(), o)
			list := status.Conditions
			if c.kind == "InstanceGroup" {
				list, ok = resolve.InstanceGroupConditions(cat.Read(), o.Key), true
				list = append(list, conditions.OfReading(&discovery.GroupStatus{}, true, o.Generation)...)
			}
			require.True(t, ok)
			list = append(list, programmedAs(o.Name(), o.Generation, c.proxies))
			obj := map[string]any{"metadata": map[string]any{"generation": o.Generation}}
			health, _ := a.of(t, c.kind, obj)
			require.Equal(t, "Progressing", health, "before Causeway has looked")
			obj["status"] = asMap(t, &v1alpha1.InstanceGroupStatus{Conditions: list})
			health, message := a.of(t, c.kind, obj)
			require.Equal(t, c.want, health, message)
			require.Contains(t, message, c.message)
			obj["metadata"].(map[string]any)["generation"] = o.Generation + 1
			health, _ = a.of(t, c.kind, obj)
			require.Equal(t, "Progressing", health, "after an edit")
		})
	}
}

// An InstanceGroup is well as long as EC2 is read and nothing is held back, with traffic or without.
func TestArgoHealthOfGroups(t *testing.T) {
	t.Parallel()
	a := readArgo(t)
	const group = "apiVersion: mesh.causeway.dev/v1alpha1\nkind: InstanceGroup\nmetadata: {name: a, namespace: web, generation: 1}\n" +
		"spec: {serviceRef: {name: php-web}, region: ap-northeast-1, selector: {autoScalingGroups: [php]}, ports: [{name: http, port: 80}]}\n"
	for name, c := range map[string]struct {
		home          string
		st            discovery.GroupStatus
		read          bool
		want, message string
	}{
		"serving":           {"Instances", discovery.GroupStatus{}, true, "Healthy", "in force"},
		"without traffic":   {"Pods", discovery.GroupStatus{}, true, "Healthy", "in force"},
		"not read":          {"Instances", discovery.GroupStatus{}, false, "Progressing", "was not asked yet"},
		"EC2 fails":         {"Instances", discovery.GroupStatus{Error: "UnauthorizedOperation"}, true, "Degraded", "UnauthorizedOperation"},
		"the guard holds 7": {"Instances", discovery.GroupStatus{GuardHeld: 7, GuardReason: "too many at once"}, true, "Degraded", "7 instances are held back"},
	} {
		cat := rows.Parse(t, strings.Replace(argoMesh, "Instances", c.home, 1)+group).Catalog(t)
		list := append(resolve.InstanceGroupConditions(cat.Read(), discovery.Key{Namespace: "web", Name: "a"}), conditions.OfReading(&c.st, c.read, 1)...)
		got, message := a.of(t, "InstanceGroup", map[string]any{
			"metadata": map[string]any{"generation": int64(1)}, "status": asMap(t, &v1alpha1.InstanceGroupStatus{Conditions: list}),
		})
		require.Equal(t, c.want, got, "%s: %s", name, message)
		require.Contains(t, message, c.message, name)
	}
}

// argoShift is a shift that the real machine carries out, and that Argo CD looks at.
type argoShift struct {
	t    *testing.T
	argo *argo
	in   shift.Input
	now  time.Time
}

func newArgoShift(t *testing.T) *argoShift {
	t.Helper()
	o := &v1alpha1.TrafficShift{}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "manifests", "examples", "shift", "first.yaml")), o))
	o.Generation, o.ResourceVersion = 1, "4711"
	return &argoShift{t: t, argo: readArgo(t), now: time.Now().UTC(), in: shift.Input{
		Object: o, Accepted: true, From: discovery.Instances, To: discovery.Pods, Seen: time.Hour, InstancesInService: 4,
		Verdict: shift.Verdict{Result: shift.Pass, Reason: "all is well"},
		Room:    func(v1alpha1.Percent) shift.Room { return shift.Room{OK: true, Reason: "there is room"} },
	}}
}

// after lets time pass, and the machine decide.
func (s *argoShift) after(d time.Duration) *argoShift {
	s.t.Helper()
	s.now = s.now.Add(d)
	text, err := json.Marshal(shift.Next(s.in, s.now).Status)
	require.NoError(s.t, err)
	s.in.Object.Status = v1alpha1.TrafficShiftStatus{}
	require.NoError(s.t, json.Unmarshal(text, &s.in.Object.Status))
	return s
}

func (s *argoShift) object() map[string]any { return asMap(s.t, s.in.Object) }

func (s *argoShift) is(want, message string) {
	s.t.Helper()
	got, said := s.argo.of(s.t, "TrafficShift", s.object())
	require.Equal(s.t, want, got, said)
	require.Contains(s.t, said, message)
}

// offered returns the actions that Argo CD has buttons for.
func (s *argoShift) offered() []string {
	s.t.Helper()
	var out []string
	for name, action := range runArgo(s.t, s.argo.discovery, s.object()).(map[string]any) {
		if action.(map[string]any)["disabled"] == false {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// press runs an action, checks that it changes the command alone, and has the machine carry it out.
func (s *argoShift) press(action string) *v1alpha1.ShiftCommandResult {
	s.t.Helper()
	s.in.Object.ResourceVersion += "1"
	before := s.object()
	after := runArgo(s.t, s.argo.actions[action], before).(map[string]any)
	command := after["metadata"].(map[string]any)["annotations"].(map[string]any)[v1alpha1.CommandAnnotation].(string)
	var given v1alpha1.ShiftCommand
	require.NoError(s.t, json.Unmarshal([]byte(command), &given))
	require.Equal(s.t, action, string(given.Action))
	require.Equal(s.t, s.in.Object.Status.Step, *given.Step)
	again, err := json.Marshal(given)
	require.NoError(s.t, err)
	require.JSONEq(s.t, command, string(again))
	require.WithinDuration(s.t, time.Now(), given.Time.Time, time.Minute)
	given.Time = metav1.NewTime(s.now) // the test's clock
	text, err := json.Marshal(given)
	require.NoError(s.t, err)
	s.in.Object.Annotations = map[string]string{v1alpha1.CommandAnnotation: string(text)}
	s.after(time.Second)
	require.Equal(s.t, given.ID, s.in.Object.Status.Command)
	return s.in.Object.Status.CommandResult
}

// Through a whole shift Argo CD tells where it stands, and offers what the machine carries out: a button that is there
// is never refused.
func TestArgoFollowsAShift(t *testing.T) {
	t.Parallel()
	s := newArgoShift(t)
	s.is("Progressing", "has not looked at it yet")
	require.Empty(t, s.offered())
	s.after(0).is("Progressing", "Shifting at 1 %")
	for range 3 {
		s.after(31 * time.Minute)
	}
	s.is("Suspended", "needs an approval")
	require.Equal(t, v1alpha1.ShiftAwaitingApproval, s.in.Object.Status.Phase)
	require.Equal(t, []string{"pause", "promote", "rollback"}, s.offered())

	require.Equal(t, v1alpha1.CommandDone, s.press("pause").Result)
	s.is("Suspended", "somebody paused it")
	require.Equal(t, []string{"resume", "rollback"}, s.offered())
	require.Equal(t, v1alpha1.CommandDone, s.press("resume").Result)
	require.Equal(t, v1alpha1.CommandDone, s.press("rollback").Result)
	s.is("Degraded", "Roll")
	s.after(time.Minute).is("Degraded", "RolledBack")
	require.Equal(t, []string{"pause", "promote"}, s.offered())
	require.Equal(t, v1alpha1.CommandDone, s.press("promote").Result)
	s.is("Progressing", "%")

	s.in.Verdict = shift.Verdict{Result: shift.Fail, Reason: "success rate 12 %"}
	s.in.Object.Spec.OnFailure = v1alpha1.HoldStep
	s.after(31 * time.Minute)
	s.in.Verdict = shift.Verdict{Result: shift.Pass}
	for range 8 {
		s.after(31 * time.Minute)
		if s.in.Object.Status.Phase == v1alpha1.ShiftAwaitingApproval {
			require.NotEqual(t, v1alpha1.CommandRefused, s.press("promote").Result)
		}
	}
	s.in.Verdict = shift.Verdict{Result: shift.Fail, Reason: "success rate 12 %"}
	s.after(time.Minute).is("Degraded", "success rate 12 %")
	s.in.Verdict = shift.Verdict{Result: shift.Pass}
	for range 4 {
		s.after(25 * time.Hour)
	}
	s.is("Healthy", "home")
	require.Empty(t, s.offered())
	require.Equal(t, v1alpha1.CommandRefused, s.press("promote").Result, "the check is not empty")
}

// The edges of a shift: a mistake, a pin, a last step below 100 %, an edit.
func TestArgoHealthOfShifts(t *testing.T) {
	t.Parallel()
	s := newArgoShift(t)
	s.in.Object.Spec.Pin = "5"
	s.after(0).is("Suspended", "5 %")
	require.NotContains(t, s.offered(), "promote")

	s = newArgoShift(t)
	s.in.Object.Spec.Steps = s.in.Object.Spec.Steps[:1]
	s.after(0).after(time.Hour).after(time.Hour).is("Healthy", "1 %")
	s.in.Object.Generation++
	s.is("Progressing", "this generation")

	cat := rows.Parse(t, strings.Replace(read(t, "manifests", "examples", "shift", "first.yaml"), "name: php-web}\nspec", "name: php-web, generation: 1}\nspec", 1)).Catalog(t)
	o, ok := catalog.Objects.Get(cat.Read(), "TrafficShift web/php-web")
	require.True(t, ok)
	status, ok := resolve.StatusOf(cat.Read(), o)
	require.True(t, ok)
	s = newArgoShift(t)
	s.after(0)
	s.in.Object.Status.Conditions = append(s.in.Object.Status.Conditions, status.Conditions...)
	s.is("Degraded", "there is no Service web/php-web")
}

// Argo CD's server may do what manifests/argocd says, as itself, and the API server's policy looks at its commands
// as at anybody's.
func TestArgoActionsAreAdmitted(t *testing.T) {
	kube := shiftCluster(t)
	kube.Namespace(t, "argocd")
	kube.ApplyYAML(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: argocd-server, namespace: argocd}\n"+
		"---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: other, namespace: argocd}\n"+
		"---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: argocd-application-controller, namespace: argocd}\n")
	kube.Apply(t, manifest(t, "argocd", "rbac.yaml"))
	kube.ApplyYAML(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: other, namespace: web}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: causeway-shift-operator}
subjects: [{kind: ServiceAccount, name: other, namespace: argocd}]
`)
	as := func(account string) dynamic.ResourceInterface {
		client, err := dynamic.NewForConfig(kube.ServiceAccountConfig(t, "argocd", account))
		require.NoError(t, err)
		return client.Resource(trafficShifts).Namespace("web")
	}
	server, other, controller := as("argocd-server"), as("other"), as("argocd-application-controller")
	a := readArgo(t)
	get := func() *unstructured.Unstructured {
		o, err := server.Get(t.Context(), "php-web", metav1.GetOptions{})
		require.NoError(t, err)
		return o
	}
	harness.Eventually(t, time.Minute, "the rights and the policy", func() error {
		if _, err := server.Get(t.Context(), "php-web", metav1.GetOptions{}); err != nil {
			return err
		}
		if err := annotate(t, other, fmt.Sprint("x", time.Now().UnixNano())); err == nil || !apierrors.IsInvalid(err) {
			return fmt.Errorf("other: %w", cmp.Or(err, errTaken))
		}
		return patchSpec(t, controller, `{"paused":false}`)
	})
	press := func(by dynamic.ResourceInterface, action string) error {
		// Argo CD sends what differs as a merge patch.
		live := get()
		after := runArgo(t, a.actions[action], live.DeepCopy().Object).(map[string]any)
		command := after["metadata"].(map[string]any)["annotations"].(map[string]any)[v1alpha1.CommandAnnotation]
		return annotate(t, by, command)
	}
	for action := range a.actions {
		require.NoError(t, press(server, action), action)
		require.Contains(t, get().GetAnnotations()[v1alpha1.CommandAnnotation], `"action":"`+action+`"`)
	}
	err := press(other, "promote")
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, "from another actor than system:serviceaccount:argocd:other")
	require.True(t, apierrors.IsForbidden(patchSpec(t, server, `{"paused":true}`)), "who has buttons does not edit")
	require.True(t, apierrors.IsForbidden(press(controller, "promote")), "what is merged gives no command")

	// A sync of what Git has leaves the command where it is: no difference that comes back for ever.
	var desired map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "manifests", "examples", "shift", "first.yaml")), &desired))
	require.NoError(t, press(server, "pause"))
	text, err := json.Marshal(desired)
	require.NoError(t, err)
	_, err = controller.Patch(t.Context(), "php-web", types.ApplyPatchType, text, metav1.PatchOptions{FieldManager: "argocd-controller", Force: new(true)})
	require.NoError(t, err)
	require.Contains(t, get().GetAnnotations()[v1alpha1.CommandAnnotation], `"action":"pause"`)
}
