package outcomes

import (
	"fmt"
	"strings"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

func loaded(r *Recorder, id string, issued uint64) {
	r.Load(id, 10*time.Second, list(&endpointv3.ClusterStats{
		ClusterName: "web/php:80/pods", UpstreamLocalityStats: list(&endpointv3.UpstreamLocalityStats{TotalIssuedRequests: issued, TotalSuccessfulRequests: issued}),
	}))
}

// An entry that waits for a load report counts as it would have counted at once.
func TestKeptEntriesCountTheSame(t *testing.T) {
	t.Parallel()
	ok := entry("web/php:80/pods", "1", 200)
	ok.Request.OriginalPath, ok.Request.Path = "/checkout/1234", "/internal"
	ok.CommonProperties.Duration = durationpb.New(3 * time.Millisecond)
	ok.CommonProperties.RouteName = "HTTPRoute/web/shop/0-shadow"
	failed := entry("web/php:80/pods", "2", 503)
	failed.Response.ResponseCodeDetails = "via_upstream"
	refused := entry("web/php:80/pods", "3", 503)
	refused.CommonProperties.ResponseFlags = &accesslogv3.ResponseFlags{UpstreamConnectionFailure: true}
	grpc := entry("web/php:80/pods", "4", 200)
	grpc.Response.ResponseTrailers = map[string]string{"grpc-status": "13", "other": "x"}
	grpc.Response.ResponseCodeDetails = "via_upstream"
	over := entry("web/php:80/pods", "5", 200)
	over.CommonProperties.UpstreamCluster = "web/php:80/instances"
	all := list(ok, failed, refused, grpc, over, &accesslogv3.HTTPAccessLogEntry{CommonProperties: ok.GetCommonProperties()})

	atOnce, _ := newRecorder()
	waiting, _ := newRecorder()
	waiting.opts.LoadsHere = true
	for _, r := range list(atOnce, waiting) {
		r.Connected("n")
		r.LogHTTP("n", outcomesLog, all)
	}
	require.Empty(t, waiting.Snapshot().Totals.Outcomes)
	require.Equal(t, len(all), waiting.held)
	for _, r := range list(atOnce, waiting) {
		loaded(r, "n", 100)
	}
	require.Zero(t, waiting.held)
	require.Equal(t, atOnce.Snapshot().Totals, waiting.Snapshot().Totals)
	require.NotEmpty(t, waiting.Snapshot().Totals.Paths)
}

// However many proxies log before their first load report, and whatever is in it, what is kept is bounded.
func TestKeptEntriesAreBounded(t *testing.T) {
	t.Parallel()
	r, _ := newRecorder()
	r.opts.LoadsHere = true
	large := entry("web/php:80/pods", strings.Repeat("x", 1<<20), 200)
	large.Request.Path = "/" + strings.Repeat("x", 1<<20)
	large.Request.RequestHeaders = map[string]string{"a": strings.Repeat("x", 1<<20)}
	large.CommonProperties.ResponseFlags = &accesslogv3.ResponseFlags{}
	large.GetCommonProperties().GetResponseFlags().ProtoReflect().SetUnknown(append([]byte{0xfa, 0x7f, 0x80, 0x80, 0x40}, make([]byte, 1<<20)...))
	require.Less(t, proto.Size(keptHTTP(large)), 8*maxKeptText)

	some := make([]*accesslogv3.HTTPAccessLogEntry, maxHeld+1)
	for i := range some {
		some[i] = entry("web/php:80/pods", fmt.Sprint(i), 200)
	}
	var leave []func()
	for i := range maxHeldOfAll/maxHeld + 2 {
		id := fmt.Sprint("n", i)
		leave = append(leave, r.Connected(id))
		r.LogHTTP(id, outcomesLog, some)
		require.Equal(t, min((i+1)*maxHeld, maxHeldOfAll), r.held)
	}
	r.LogHTTP("stranger", outcomesLog, some)
	loaded(r, "n0", 10)
	require.Equal(t, maxHeldOfAll-maxHeld, r.held, "what was kept for it has been counted")
	for _, leave := range leave {
		leave()
	}
	require.Zero(t, r.held)
}
