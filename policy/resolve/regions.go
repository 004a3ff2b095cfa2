package resolve

import (
	"fmt"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// regions are those that the AWS SDK's partition metadata lists. AWS opens new
// ones, and partitions with names of their own, so one that is not here is no
// mistake for sure: see unknownRegion.
var regions = []string{
	"af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1",
	"ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5",
	"ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "cn-north-1", "cn-northwest-1",
	"eu-central-1", "eu-central-2", "eu-isoe-west-1", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1",
	"eu-west-2", "eu-west-3", "eusc-de-east-1", "il-central-1", "me-central-1", "me-south-1", "mx-central-1",
	"sa-east-1", "us-east-1", "us-east-2", "us-gov-east-1", "us-gov-west-1", "us-iso-east-1", "us-iso-west-1",
	"us-isob-east-1", "us-isob-west-1", "us-isof-east-1", "us-isof-south-1", "us-west-1", "us-west-2",
}

// unknownRegion returns what is odd about a region that this program does not
// know, and the closest that it knows; false for one that it knows.
func unknownRegion(field, region string) (v1alpha1.FieldError, bool) {
	if slices.Contains(regions, region) {
		return v1alpha1.FieldError{}, false
	}
	f := v1alpha1.FieldError{
		Field: field, Message: fmt.Sprintf("%q is no AWS region that this version knows", region),
		Remedy: "make sure that it exists: aws account list-regions",
	}
	if n := len(region) - 1; n > 0 && slices.Contains(regions, region[:n]) {
		f.Message = fmt.Sprintf("%q is an availability zone, not a region", region)
		f.Remedy = "did you mean " + region[:n] + "?"
		return f, true
	}
	if best := discovery.Misspelt(region, regions); best != "" {
		f.Remedy = fmt.Sprintf("did you mean %s? If not, %s", best, f.Remedy)
	}
	return f, true
}
