package ec2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"
)

func TestExplain(t *testing.T) {
	attempt := 0
	response := func(err error) error {
		attempt++
		return &awshttp.ResponseError{RequestID: fmt.Sprint(attempt), ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: http.StatusForbidden}}, Err: err,
		}}
	}
	call := func(service, name string, err error) error {
		return &smithy.OperationError{ServiceID: service, OperationName: name, Err: err}
	}
	page := func(err error) error { return fmt.Errorf("page 2 of the instances: %w", err) }
	describe := func(err error) error { return page(call("EC2", "DescribeInstances", err)) }
	for want, again := range map[string]func() error{
		"page 2 of the instances: EC2 DescribeInstances: UnauthorizedOperation: You are not authorized.": func() error {
			return describe(response(&smithy.GenericAPIError{
				Code: "UnauthorizedOperation", Message: fmt.Sprintf("You are not authorized. Encoded authorization failure message: %d", attempt),
			}))
		},
		"page 2 of the instances: STS AssumeRole: AccessDenied: no": func() error {
			return describe(fmt.Errorf("get credentials: %w", call("STS", "AssumeRole", response(&smithy.GenericAPIError{Code: "AccessDenied", Message: "no"}))))
		},
		"page 2 of the instances: EC2 DescribeInstances: read: connection reset by peer": func() error {
			attempt++
			return describe(&net.OpError{Op: "read", Source: &net.TCPAddr{Port: attempt}, Err: syscall.ECONNRESET})
		},
		"page 2 of the instances: EC2 DescribeInstances: no answer in time": func() error {
			attempt++
			return describe(fmt.Errorf("attempt %d: %w", attempt, context.DeadlineExceeded))
		},
		"page 2 of the instances: EC2 DescribeInstances: broken XML": func() error {
			return describe(response(errors.New("broken XML")))
		},
		"page 2 of the instances: the answer is cut off": func() error { return page(errors.New("the answer is cut off")) },
	} {
		require.Equal(t, want, explain(again()))
		require.Equal(t, want, explain(again()), "the next attempt fails alike")
	}
}
