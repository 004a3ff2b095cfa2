package ec2

import (
	"errors"
	"net"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// explain returns an error's text for an SRE. It leaves out parts that differ from
// one attempt to the next (request ids, ports, encoded messages): the text ends up
// in statuses, and a status that changes every 15 seconds would be written as often.
func explain(err error) string {
	var op *smithy.OperationError
	if !errors.As(err, &op) {
		return err.Error()
	}
	where, _, _ := strings.Cut(err.Error(), "operation error "+op.Service())
	for inner := op; errors.As(inner.Err, &inner); { // the call that failed, such as AssumeRole, is the innermost
		op = inner
	}
	return where + op.Service() + " " + op.Operation() + ": " + explainCause(op.Err)
}

func explainCause(err error) string {
	var (
		api      smithy.APIError
		response *awshttp.ResponseError
		network  *net.OpError
	)
	switch {
	case errors.As(err, &api):
		message, _, _ := strings.Cut(api.ErrorMessage(), " Encoded authorization failure message")
		return api.ErrorCode() + ": " + message
	case callOutcome(err) == outcomeTimeout:
		return "no answer in time"
	case errors.As(err, &network):
		return network.Op + ": " + network.Err.Error()
	case errors.As(err, &response):
		return response.Err.Error()
	}
	return err.Error()
}
