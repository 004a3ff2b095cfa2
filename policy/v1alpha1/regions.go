package v1alpha1

import (
	"fmt"
	"slices"
)

// regions are those that the AWS SDK's partition metadata lists. AWS opens new
// ones, and partitions with names of their own, so one that is not here is no
// mistake for sure: see UnknownRegion.
var regions = []string{
	"af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1",
	"ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5",
	"ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "cn-north-1", "cn-northwest-1",
	"eu-central-1", "eu-central-2", "eu-isoe-west-1", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1",
	"eu-west-2", "eu-west-3", "eusc-de-east-1", "il-central-1", "me-central-1", "me-south-1", "mx-central-1",
	"sa-east-1", "us-east-1", "us-east-2", "us-gov-east-1", "us-gov-west-1", "us-iso-east-1", "us-iso-west-1",
	"us-isob-east-1", "us-isob-west-1", "us-isof-east-1", "us-isof-south-1", "us-west-1", "us-west-2",
}

// UnknownRegion returns what is odd about a region that this program does not
// know, and the closest that it knows; false for one that it knows.
func UnknownRegion(region string) (FieldError, bool) {
	if slices.Contains(regions, region) {
		return FieldError{}, false
	}
	f := FieldError{
		Field: "spec.region", Message: fmt.Sprintf("%q is no AWS region that this version knows", region),
		Remedy: "make sure that it exists: aws account list-regions",
	}
	if n := len(region) - 1; n > 0 && slices.Contains(regions, region[:n]) {
		f.Message = fmt.Sprintf("%q is an availability zone, not a region", region)
		f.Remedy = "did you mean " + region[:n] + "?"
		return f, true
	}
	best, least := "", 4
	for _, r := range regions {
		if d := distance(region, r); d < least {
			best, least = r, d
		}
	}
	if best != "" {
		f.Remedy = fmt.Sprintf("did you mean %s? If not, %s", best, f.Remedy)
	}
	return f, true
}

// distance is how many letters must be added, removed or replaced to make one
// word of another (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
