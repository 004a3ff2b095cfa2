package members

import (
	"context"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/xds/members/membersv1"
	"github.com/causeway-mesh/causeway/xds/server"
)

// Certifier issues the certificates of workloads.
type Certifier interface {
	// Certify signs a request of who may be a node, by what its call has proven (server.ProofOf). The error is gRPC's.
	Certify(ctx context.Context, node *server.Node, request []byte) (*membersv1.CertifyResponse, error)
}

// Certify implements membersv1.MembersServer.
func (m *Members) Certify(request *membersv1.CertifyRequest, stream membersv1.Members_CertifyServer) error {
	ctx := stream.Context()
	if m.Certifier == nil {
		return status.Error(codes.Unimplemented, "this control plane issues no certificates: it has no TLS, or takes no tokens")
	}
	if proto.Size(request) > maxMessage {
		return status.Errorf(codes.InvalidArgument, "a request has at most %d bytes", maxMessage)
	}
	guest, err := m.admit(ctx, &corev3.Node{Id: request.GetNode()})
	if err != nil {
		return err //nolint:wrapcheck // gRPC's own
	}
	defer guest.Leave()
	answer, err := m.Certifier.Certify(ctx, guest.Node(), request.GetRequest())
	if err != nil {
		return err //nolint:wrapcheck // gRPC's own
	}
	return stream.Send(answer) //nolint:wrapcheck // gRPC's own
}
