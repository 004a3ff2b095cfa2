package v1alpha1

import (
	"fmt"
	"slices"
	"strings"
)

// CheckEC2 returns what limits, the Mesh's, do not let an InstanceGroup name:
// such a group's instances are not read. A nil limits lets it name anything.
func CheckEC2(limits *MeshEC2, g *InstanceGroup) []FieldError {
	if limits == nil {
		return nil
	}
	var out []FieldError
	if len(limits.Regions) > 0 && !slices.Contains(limits.Regions, g.Spec.Region) {
		out = append(out, FieldError{
			"spec.region", fmt.Sprintf("the Mesh does not list %q, so no instances are read", g.Spec.Region),
			"add it to the Mesh's spec.ec2.regions, or write one of " + strings.Join(limits.Regions, ", "),
		})
	}
	if account := accountOf(g.Spec.RoleARN); account != "" && len(limits.Accounts) > 0 && !slices.Contains(limits.Accounts, account) {
		out = append(out, FieldError{
			"spec.roleARN", fmt.Sprintf("the Mesh does not list account %q, so no instances are read", account),
			"add it to the Mesh's spec.ec2.accounts, or name a role of one of " + strings.Join(limits.Accounts, ", "),
		})
	}
	return out
}

// UnreadMesh returns why a group's instances are not read while nobody knows what the Mesh says: it may not let the group name them.
func UnreadMesh(why string) []FieldError {
	return []FieldError{{
		"spec.region", "the Mesh cannot be read, so no instances are read, and endpoints stay as they are: " + why,
		"repair the Mesh, or apply the CRD of this release",
	}}
}

// accountOf returns the account of a role's ARN, "" for none.
func accountOf(role string) string {
	parts := strings.Split(role, ":")
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}
