package v1alpha1

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckEC2(t *testing.T) {
	group := func(region, role string) *InstanceGroup {
		return &InstanceGroup{Spec: InstanceGroupSpec{Region: region, RoleARN: role}}
	}
	const role = "arn:aws:iam::123456789012:role/causeway"
	for name, tc := range map[string]struct {
		limits *MeshEC2
		group  *InstanceGroup
		want   []string
	}{
		"no Mesh":             {nil, group("eu-west-1", role), nil},
		"no limits":           {&MeshEC2{}, group("eu-west-1", role), nil},
		"what is listed":      {&MeshEC2{Regions: []string{"eu-west-1"}, Accounts: []string{"123456789012"}}, group("eu-west-1", role), nil},
		"its own credentials": {&MeshEC2{Accounts: []string{"999999999999"}}, group("eu-west-1", ""), nil},
		"another region and account": {
			&MeshEC2{Regions: []string{"us-east-1", "us-west-2"}, Accounts: []string{"999999999999"}}, group("eu-west-1", role),
			[]string{
				`spec.region: the Mesh does not list "eu-west-1", so no instances are read: add it to the Mesh's spec.ec2.regions, or write one of us-east-1, us-west-2`,
				`spec.roleARN: the Mesh does not list account "123456789012", so no instances are read: add it to the Mesh's spec.ec2.accounts, or name a role of one of 999999999999`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, e := range CheckEC2(tc.limits, tc.group) {
				got = append(got, e.Error())
			}
			require.Equal(t, tc.want, got)
		})
	}
}
