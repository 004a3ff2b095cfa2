package ec2

import (
	"context"
	"errors"
	"net"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	calls     *prometheus.CounterVec
	throttles *prometheus.CounterVec
	sweeps    *prometheus.HistogramVec
	lastSync  *prometheus.GaugeVec
	held      *prometheus.GaugeVec
	messages  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		calls: f.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_ec2_api_calls_total",
			Help: "Calls of AWS APIs, each retry counted, by outcome: ok, throttled, denied, timeout or error.",
		}, []string{"operation", "account", "region", "outcome"}),
		throttles: f.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_ec2_throttles_total", Help: "Calls of AWS APIs that were throttled.",
		}, []string{"account", "region"}),
		sweeps: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "causeway_ec2_sweep_duration_seconds", Help: "Time to read one account and region, by outcome: ok or error.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 11),
		}, []string{"account", "region", "outcome"}),
		lastSync: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "causeway_ec2_last_sync_timestamp_seconds", Help: "When an account and region last gave a whole answer.",
		}, []string{"account", "region"}),
		held: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "causeway_ec2_guard_held_endpoints", Help: "Endpoints that the never-empty guard keeps although EC2 does not account for them.",
		}, []string{"group"}),
		messages: f.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_ec2_sqs_messages_total", Help: "Messages read from SQS by detail type; foreign ones and malformed ones as such.",
		}, []string{"detail_type"}),
	}
}

// countCalls counts every attempt of every call that a client makes.
func (m *metrics) countCalls(account, region string) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("causeway.Metrics",
			func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
				out, meta, err := next.HandleDeserialize(ctx, in)
				outcome := callOutcome(err)
				m.calls.WithLabelValues(awsmiddleware.GetOperationName(ctx), account, region, outcome).Inc()
				if outcome == outcomeThrottled {
					m.throttles.WithLabelValues(account, region).Inc()
				}
				return out, meta, err
			}), middleware.Before)
	}
}

const (
	outcomeOK        = "ok"
	outcomeThrottled = "throttled"
	outcomeDenied    = "denied"
	outcomeTimeout   = "timeout"
	outcomeError     = "error"
)

// callOutcome classifies the errors of AWS' APIs, for the label outcome.
func callOutcome(err error) string {
	var api smithy.APIError
	var network net.Error
	switch {
	case err == nil:
		return outcomeOK
	case retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == aws.TrueTernary:
		return outcomeThrottled
	case errors.As(err, &api) && denied(api.ErrorCode()):
		return outcomeDenied
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return outcomeTimeout
	}
	return outcomeError
}

// denied reports whether an error code means that the credentials are not
// (or no longer) good for the call.
func denied(code string) bool {
	switch code {
	case "AuthFailure", "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "OptInRequired",
		"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "InvalidAccessKeyId",
		"SignatureDoesNotMatch", "UnrecognizedClientException", "MissingAuthenticationToken", "NotAuthorized":
		return true
	}
	return false
}
