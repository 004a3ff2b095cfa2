package resolve

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func TestUnknownRegion(t *testing.T) {
	for region, want := range map[string]string{
		"ap-northeast-1": "", "eusc-de-east-1": "", "us-gov-west-1": "", "us-isof-south-1": "",
		"eu-west-9":       `spec.region: "eu-west-9" is no AWS region that this version knows: did you mean eu-west-1? If not, make sure that it exists: aws account list-regions`,
		"ap-northeats-1":  `spec.region: "ap-northeats-1" is no AWS region that this version knows: did you mean ap-northeast-1? If not, make sure that it exists: aws account list-regions`,
		"ap-northeast-1a": `spec.region: "ap-northeast-1a" is an availability zone, not a region: did you mean ap-northeast-1?`,
		"xx-neverland-7":  `spec.region: "xx-neverland-7" is no AWS region that this version knows: make sure that it exists: aws account list-regions`,
	} {
		f, unknown := unknownRegion("spec.region", region)
		require.Equal(t, want != "", unknown, region)
		if unknown {
			require.Equal(t, want, f.Error())
		}
		g := &v1alpha1.InstanceGroup{Spec: v1alpha1.InstanceGroupSpec{
			ServiceRef: v1alpha1.ServiceReference{Name: "s"}, Region: region, Selector: v1alpha1.InstanceSelector{AutoScalingGroups: []string{"x"}}, Ports: []v1alpha1.InstancePort{{Port: 80}},
		}}
		v1alpha1.DefaultInstanceGroup(g)
		require.Empty(t, v1alpha1.ValidateInstanceGroup(g), "a region that nobody knows yet is not refused")
	}
}

// What the SDK knows is known here: a newer SDK says which regions are missing.
func TestRegionsAreThoseOfTheSDK(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2").Output()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "internal/endpoints/awsrulesfn/partitions.json"))
	require.NoError(t, err)
	var metadata struct {
		Partitions []struct {
			Regions map[string]json.RawMessage `json:"regions"`
		} `json:"partitions"`
	}
	require.NoError(t, json.Unmarshal(text, &metadata))
	require.NotEmpty(t, metadata.Partitions)
	for _, p := range metadata.Partitions {
		for region := range p.Regions {
			if !strings.HasSuffix(region, "-global") {
				require.Contains(t, regions, region)
			}
		}
	}
}
