package manifests_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// module is what a folder of Terraform declares, and what it refers to.
type module struct {
	declared map[string]bool // "var.x", "local.x", "data.type.name", "type.name"
	used     map[string]string
	bare     []string // variables and outputs without a description
}

func terraform(t *testing.T, folder string) *module {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.tf"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	m := &module{declared: make(map[string]bool), used: make(map[string]string)}
	parser := hclparse.NewParser()
	for _, file := range files {
		f, diagnostics := parser.ParseHCLFile(file)
		require.Falsef(t, diagnostics.HasErrors(), "%s", diagnostics)
		body := f.Body.(*hclsyntax.Body)
		for _, b := range body.Blocks {
			switch b.Type {
			case "variable", "output":
				if b.Body.Attributes["description"] == nil {
					m.bare = append(m.bare, b.Labels[0])
				}
				if b.Type == "variable" {
					m.declare(t, "var."+b.Labels[0])
				}
			case "locals":
				for name := range b.Body.Attributes {
					m.declare(t, "local."+name)
				}
			case "resource":
				m.declare(t, strings.Join(b.Labels, "."))
			case "data":
				m.declare(t, "data."+strings.Join(b.Labels, "."))
			case "terraform":
			default:
				t.Errorf("%s: a block %s", file, b.Type)
			}
		}
		diagnostics = hclsyntax.VisitAll(body, func(n hclsyntax.Node) hcl.Diagnostics {
			if e, ok := n.(*hclsyntax.ScopeTraversalExpr); ok {
				m.use(e.Traversal, file)
			}
			return nil
		})
		require.False(t, diagnostics.HasErrors())
	}
	return m
}

func (m *module) declare(t *testing.T, name string) {
	t.Helper()
	require.Falsef(t, m.declared[name], "%s is declared twice", name)
	m.declared[name] = true
}

func (m *module) use(traversal hcl.Traversal, file string) {
	var parts []string
	for _, step := range traversal {
		switch s := step.(type) {
		case hcl.TraverseRoot:
			parts = append(parts, s.Name)
		case hcl.TraverseAttr:
			parts = append(parts, s.Name)
		}
	}
	least := map[string]int{"var": 2, "local": 2, "data": 3}[parts[0]]
	if strings.HasPrefix(parts[0], "aws_") {
		least = 2
	}
	if least > 0 && len(parts) >= least {
		m.used[strings.Join(parts[:least], ".")] = file
	}
}

// Of the Terraform modules every reference leads somewhere, every variable is used and described, and every type is one
// that the AWS provider has.
func TestTerraform(t *testing.T) {
	known := map[string]bool{}
	for name := range strings.FieldsSeq(`aws_security_group aws_vpc_security_group_ingress_rule aws_vpc_security_group_egress_rule aws_lb
		aws_lb_target_group aws_lb_listener aws_route53_record aws_sqs_queue aws_sqs_queue_policy aws_cloudwatch_event_rule aws_cloudwatch_event_target
		aws_iam_policy aws_iam_policy_document aws_iam_role aws_iam_role_policy aws_iam_role_policy_attachment aws_iam_instance_profile
		aws_launch_template aws_autoscaling_lifecycle_hook aws_region aws_caller_identity aws_partition`) {
		known[name] = true
	}
	for _, name := range []string{"control-plane", "hosts"} {
		m := terraform(t, filepath.Join(root(t), "manifests", "terraform", name))
		require.Empty(t, m.bare, "without a description")
		for reference, file := range m.used {
			require.Truef(t, m.declared[reference], "%s: %s is declared nowhere", file, reference)
		}
		for declared := range m.declared {
			kind, _, _ := strings.Cut(strings.TrimPrefix(declared, "data."), ".")
			if kind == "var" || kind == "local" {
				require.Containsf(t, m.used, declared, "%s: it is used nowhere", name)
				continue
			}
			require.Truef(t, known[kind], "%s: %s", name, kind)
		}
	}
}

// A template has the variables that its module gives it, and user data is YAML.
func TestCloudInit(t *testing.T) {
	folder := filepath.Join(root(t), "manifests", "terraform", "hosts")
	text, err := os.ReadFile(filepath.Join(folder, "cloud-init.yaml.tftpl"))
	require.NoError(t, err)
	main, err := os.ReadFile(filepath.Join(folder, "main.tf"))
	require.NoError(t, err)
	_, arguments, _ := strings.Cut(string(main), `cloud-init.yaml.tftpl", {`)
	arguments, _, _ = strings.Cut(arguments, "}))")
	given := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\s+(\w+)\s+=`).FindAllStringSubmatch(arguments, -1) {
		given[m[1]] = true
	}
	used := map[string]bool{}
	plain := regexp.MustCompile(`\$\{(\w+)\}`).ReplaceAllStringFunc(string(text), func(s string) string {
		used[s[2:len(s)-1]] = true
		return "x"
	})
	require.Equal(t, given, used)
	require.True(t, strings.HasPrefix(plain, "#cloud-config\n"))
	var data struct {
		WriteFiles []struct{ Path, Content, Permissions string } `json:"write_files"`
		RunCmd     [][]string                                    `json:"runcmd"`
	}
	require.NoError(t, yaml.UnmarshalStrict([]byte(plain), &data))
	require.Len(t, data.WriteFiles, 2)
	script := filepath.Join(t.TempDir(), "join")
	require.NoError(t, os.WriteFile(script, []byte(data.WriteFiles[1].Content), 0o600))
	output(t, "sh", "-n", script)
	require.Equal(t, [][]string{{data.WriteFiles[1].Path}}, data.RunCmd)
	var settings map[string]any
	require.NoError(t, yaml.UnmarshalStrict([]byte(data.WriteFiles[0].Content), &settings))
	require.Equal(t, true, settings["ec2"])
}
