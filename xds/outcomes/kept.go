package outcomes

import (
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/proto"
)

// maxKeptText bounds each text of an entry that is kept: the groups of paths and the names of routes need no more.
const maxKeptText = 512

// An entry that waits keeps only the fields that are counted. The original may be a megabyte and take many
// in memory.

func keptHTTP(e *accesslogv3.HTTPAccessLogEntry) *accesslogv3.HTTPAccessLogEntry {
	request, response := e.GetRequest(), e.GetResponse()
	return &accesslogv3.HTTPAccessLogEntry{
		CommonProperties: keptCommon(e.GetCommonProperties()),
		Request: &accesslogv3.HTTPRequestProperties{
			RequestMethod: request.GetRequestMethod(), RequestId: kept(request.GetRequestId()),
			Path: kept(request.GetPath()), OriginalPath: kept(request.GetOriginalPath()),
		},
		Response: &accesslogv3.HTTPResponseProperties{
			ResponseCode: small(response.GetResponseCode()), ResponseCodeDetails: kept(response.GetResponseCodeDetails()),
			ResponseBodyBytes: response.GetResponseBodyBytes(),
			ResponseHeaders:   keptStatus(response.GetResponseHeaders()), ResponseTrailers: keptStatus(response.GetResponseTrailers()),
		},
	}
}

// keptStatus returns the status of a gRPC answer from its headers or trailers.
func keptStatus(fields map[string]string) map[string]string {
	status, ok := fields[statusField]
	if !ok {
		return nil
	}
	return map[string]string{statusField: kept(status)}
}

func keptCommon(c *accesslogv3.AccessLogCommon) *accesslogv3.AccessLogCommon {
	return &accesslogv3.AccessLogCommon{
		AccessLogType: c.GetAccessLogType(), ResponseFlags: small(c.GetResponseFlags()), Duration: small(c.GetDuration()),
		TimeToLastDownstreamTxByte: small(c.GetTimeToLastDownstreamTxByte()), UpstreamRemoteAddress: small(c.GetUpstreamRemoteAddress()),
		UpstreamCluster: kept(c.GetUpstreamCluster()), RouteName: kept(c.GetRouteName()),
	}
}

func kept(text string) string { return strings.Clone(text[:min(len(text), maxKeptText)]) }

// small returns a message, or none in place of one that no proxy sends.
func small[M proto.Message](m M) M {
	if proto.Size(m) > maxKeptText {
		var none M
		return none
	}
	return m
}
