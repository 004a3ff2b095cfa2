package outcomes_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// paired waits until so many pairs of a Service were compared.
func (p *plane) paired(t *testing.T, name string, pairs uint64) outcome.Pairs {
	t.Helper()
	var out outcome.Pairs
	harness.Eventually(t, 30*time.Second, fmt.Sprintf("%d pairs of %s", pairs, name), func() error {
		if got := p.Snapshot().Totals.Pairs[key(name, discovery.Pods)]; got != nil {
			out = *got
		}
		if out.Compared < pairs {
			return fmt.Errorf("%+v", out)
		}
		return nil
	})
	require.Equal(t, pairs, out.Compared)
	require.Equal(t, pairs, out.Answer.Total())
	require.Equal(t, pairs, out.Mirror.Total())
	return out
}

func TestShadow(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	const slow = 600 * time.Millisecond
	body := bytes.Repeat([]byte("x"), 1000)
	pods := make(map[string]*backend)
	for name, answer := range map[string]http.HandlerFunc{
		"equal":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) },
		"fails":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"larger": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(append(body, body...)) },
		"slow": func(w http.ResponseWriter, _ *http.Request) {
			harness.TakeTime(slow)
			_, _ = w.Write(body)
		},
		"uploads": func(w http.ResponseWriter, r *http.Request) {
			if n, err := io.Copy(io.Discard, r.Body); err != nil || n != 100_000 || r.Host != "uploads.web" {
				w.WriteHeader(http.StatusBadRequest)
			}
			_, _ = w.Write(body)
		},
	} {
		pods[name] = startBackend(t, "web/"+name)
		pods[name].answer(answer)
	}
	pods["dead"] = refusing(t, "web/dead")
	instance := startBackend(t, "i-1")
	instance.answer(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(body)
	})
	c := p.startCaller(t, "", nil)
	for name, pod := range pods {
		p.add(t, name, []*backend{pod}, []*backend{instance})
		p.shift(t, name, v1alpha1.TrafficShiftStatus{
			Phase: v1alpha1.ShiftShadowing, Percent: "0", ShadowPercent: "100", ShadowMethods: []v1alpha1.ShiftMethod{"GET", "POST"},
		})
		p.ready(t, c, name)
	}
	for name := range pods {
		harness.Eventually(t, 20*time.Second, "the listener of copies", func() error {
			if !bytes.Contains(c.ConfigDump(t), []byte(`"server_listener_name": "shadow/web/`+name+`:80/pods"`)) {
				return errors.New("no cluster leads to it")
			}
			return nil
		})
	}
	const n = 10
	ask := func(name, method, upload string) {
		for range n {
			began := time.Now()
			code, text := c.ask(t, method, name+".web", upload)
			require.Equal(t, http.StatusOK, code, name)
			require.Len(t, text, len(body), "the answer is the instance's")
			require.Less(t, time.Since(began), slow, "nobody waits for a copy")
		}
	}
	for name := range pods {
		if name == "uploads" {
			ask(name, http.MethodPost, string(make([]byte, 100_000)))
		} else {
			ask(name, http.MethodGet, "")
		}
	}
	for name, want := range map[string]outcome.Pairs{
		"equal": {}, "uploads": {}, "slow": {},
		"larger": {SizeDiffers: n},
		"fails":  {StatusDiffers: n, SizeDiffers: n, MirrorFailed: n},
		"dead":   {StatusDiffers: n, SizeDiffers: n, MirrorFailed: n},
	} {
		got := p.paired(t, name, n)
		require.Equal(t, want.StatusDiffers, got.StatusDiffers, name)
		require.Equal(t, want.SizeDiffers, got.SizeDiffers, name)
		require.Equal(t, want.MirrorFailed, got.MirrorFailed, name)
		if name == "slow" {
			require.InDelta(t, slow.Microseconds(), got.Mirror.Quantile(.1), float64(slow.Microseconds())/10)
			require.Less(t, got.Answer.Quantile(.9), float64(slow.Microseconds())/2)
		}
		require.NotContains(t, p.Snapshot().Totals.Outcomes, key(name, discovery.Pods), "no caller got what a copy got")
	}
	for _, r := range p.Snapshot().Nodes[0].Reports {
		require.False(t, r.Silent(), "%+v", r)
	}
}

// A proxy whose bootstrap is of the time before internal listeners mirrors all the same; its
// copies are not compared.
func TestShadowWithOldBootstrap(t *testing.T) {
	t.Parallel()
	p := startPlane(t)
	pod := startBackend(t, "web/pod")
	p.add(t, "php", []*backend{pod}, []*backend{startBackend(t, "i-1")})
	p.shift(t, "php", v1alpha1.TrafficShiftStatus{
		Phase: v1alpha1.ShiftShadowing, Percent: "0", ShadowPercent: "100", ShadowMethods: []v1alpha1.ShiftMethod{"GET"},
	})
	c := p.startCaller(t, "", func(config []byte) []byte {
		config = regexp.MustCompile(`(?m)^bootstrap_extensions:\n(?:[- ] .*\n)+`).ReplaceAll(config, nil)
		config = bytes.ReplaceAll(config, []byte("causeway.dev/internal-listeners: true"), nil)
		require.NotContains(t, string(config), "internal")
		return config
	})
	p.ready(t, c, "php")
	const n = 10
	for range n {
		code, text := c.ask(t, http.MethodGet, "php.web", "")
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, "i-1", text)
	}
	harness.Eventually(t, 10*time.Second, "the copies", func() error {
		if got := pod.hits.Load(); got != n {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
	got := p.counted(t, key("php", discovery.Instances), n)
	require.Zero(t, got.Failed())
	require.Empty(t, p.Snapshot().Totals.Pairs)
	require.NotContains(t, string(c.ConfigDump(t)), "server_listener_name")
	require.Zero(t, c.Stats(t, "cluster_manager.cds.update_rejected")["cluster_manager.cds.update_rejected"])
	require.Zero(t, c.Stats(t, "listener_manager.lds.update_rejected")["listener_manager.lds.update_rejected"])
}
