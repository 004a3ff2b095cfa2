package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ShiftGuard is what must hold for the shift to go on, judged by what callers
// got over a window that ends now.
type ShiftGuard struct {
	// SuccessRate of the target.
	// +optional
	SuccessRate *ShiftSuccessRate `json:"successRate,omitempty"`
	// StatusCodes says which statuses count as failures and which are fine, and how the
	// statuses of both sides are compared. Without it they are compared, and those of 500 to
	// 599 are failures.
	// +optional
	StatusCodes *ShiftStatusCodes `json:"statusCodes,omitempty"`
	// Paths says how single paths are judged. Without it each path that callers ask for
	// often is compared with the same path of the source.
	// +optional
	Paths *ShiftPaths `json:"paths,omitempty"`
	// ErrorBudget of the whole Service.
	// +optional
	ErrorBudget *ShiftErrorBudget `json:"errorBudget,omitempty"`
	// Latency of the target.
	// +optional
	Latency *ShiftLatency `json:"latency,omitempty"`
	// MinRequests that callers must have sent to the target in the window for a
	// verdict; fewer hold the step. Default: 500.
	// +optional
	// +kubebuilder:default=500
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000000
	MinRequests int64 `json:"minRequests,omitempty"`
	// Window over which the guard judges, from 1s to 1h. In a short one a
	// single slow answer counts much: below 10s is for demos. Default: 2m.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="it is out of bounds: write 1s to 1h, in the units h, m, s and ms"
	// +kubebuilder:default="2m"
	Window metav1.Duration `json:"window,omitempty"`
	// Metrics of other systems that must hold too.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	Metrics []ShiftMetric `json:"metrics,omitempty"`
}

// ShiftSuccessRate bounds the part of requests that are answered, and not with a 5xx.
type ShiftSuccessRate struct {
	// AtLeast is the bound in percent.
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[0.]*$')",message="it bounds nothing: write more than 0, for example 99.9"
	AtLeast Percent `json:"atLeast"`
}

// ShiftStatusCodes says what the statuses of answers mean.
//
// +kubebuilder:validation:XValidation:rule="!has(self.failures) || !has(self.fine) || !self.failures.exists(c, c in self.fine)",message="a status cannot be a failure and fine: leave it out of one of the two"
type ShiftStatusCodes struct {
	// Failures are statuses that count as failures besides those of 500 to 599, for the success
	// rate and the error budget: "404", "4xx", or a gRPC status as "NOT_FOUND".
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Failures []ShiftStatusCode `json:"failures,omitempty"`
	// Fine are statuses that are no failures, and that are not compared. A single status goes
	// before its class.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Fine []ShiftStatusCode `json:"fine,omitempty"`
	// Comparison Disabled does not compare how often the two sides answer with each status.
	// Default: Enabled.
	// +optional
	// +kubebuilder:default=Enabled
	Comparison ShiftComparisonMode `json:"comparison,omitempty"`
	// MaxIncrease is by how many percent of all requests a status may be more frequent
	// on the target than on the source at the same time. Default: 1.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!self.matches('^100')",message="it allows everything: write less than 100, or comparison: Disabled"
	MaxIncrease Percent `json:"maxIncrease,omitempty"`
}

// ShiftStatusCode is an HTTP status, a class of them, or a gRPC status.
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self.matches('^[1-5]([0-9][0-9]|xx)$') || self in ['CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS', 'PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED']",message="it is no status: write one as 404, a class as 4xx, or a status of gRPC as NOT_FOUND"
type ShiftStatusCode string

// ShiftComparisonMode says whether both sides are compared.
//
// +kubebuilder:validation:Enum=Enabled;Disabled
type ShiftComparisonMode string

// Whether both sides are compared.
const (
	ComparisonEnabled  ShiftComparisonMode = "Enabled"
	ComparisonDisabled ShiftComparisonMode = "Disabled"
)

// ShiftPaths says how single paths are judged.
type ShiftPaths struct {
	// Comparison Disabled judges all requests together only. Default: Enabled.
	// +optional
	// +kubebuilder:default=Enabled
	Comparison ShiftComparisonMode `json:"comparison,omitempty"`
	// Ignored are paths that are not judged on their own, as status.analysis.paths names them:
	// a "*" for each variable part. A "*" at the end of a longer one stands for all that
	// follows: "/legacy/*".
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Ignored []ShiftPath `json:"ignored,omitempty"`
}

// ShiftPath is a path, with "*" for its variable parts.
//
// +kubebuilder:validation:MaxLength=256
// +kubebuilder:validation:XValidation:rule="self.startsWith('/') && !self.contains('?')",message="it is no path: write it from its first slash on, without a query, for example /health"
type ShiftPath string

// ShiftErrorBudget bounds how fast the Service uses up the failures that its
// objective allows.
type ShiftErrorBudget struct {
	// Objective is the success rate in percent that is owed over the period; less than 100.
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[0.]*$') && !self.matches('^100')",message="it leaves no budget, or owes nothing: write more than 0 and less than 100, for example 99.9"
	Objective Percent `json:"objective"`
	// Period over which it is owed, at most 2160h (90 days). Default: 720h (30 days).
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('2160h')",message="it is out of bounds: write 1m to 2160h, in the units h, m, s and ms"
	// +kubebuilder:default="720h"
	Period metav1.Duration `json:"period,omitempty"`
	// MaxBurnRate is how many times faster than the objective allows failures may
	// come, a decimal number. Default: 2.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[0.]*$')",message="it allows no failure at all: write more than 0, for example 2 or 14.4"
	// +kubebuilder:default="2"
	MaxBurnRate Decimal `json:"maxBurnRate,omitempty"`
}

// Decimal is a decimal number, at least 0, for example "14.4".
//
// +kubebuilder:validation:MaxLength=16
// +kubebuilder:validation:Pattern=`^[0-9]{1,9}(\.[0-9]{1,6})?$`
type Decimal string

// ShiftLatency bounds how long answers take.
//
// +kubebuilder:validation:XValidation:rule="has(self.atMost) || has(self.maxIncrease)",message="it bounds nothing: give atMost, maxIncrease, or both"
type ShiftLatency struct {
	// Quantile that is judged, a decimal number between 0 and 1. Default: 0.99.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^0+[.][0-9]*[1-9]')",message="it is no quantile: write a number between 0 and 1, for example 0.99"
	// +kubebuilder:default="0.99"
	Quantile Decimal `json:"quantile,omitempty"`
	// AtMost is the longest that the quantile may be.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('1ms') && duration(self) <= duration('1h')",message="it is out of bounds: write 1ms to 1h, in the units h, m, s and ms"
	AtMost *metav1.Duration `json:"atMost,omitempty"`
	// MaxIncrease is by how many percent the quantile may be longer than that
	// of the source at the same time.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[0.]*$')",message="it leaves no room for chance: write more than 0, for example 20"
	MaxIncrease Decimal `json:"maxIncrease,omitempty"`
}

// ShiftMetric is a figure of another system. Exactly one provider and at least
// one bound are given.
//
// +kubebuilder:validation:XValidation:rule="[has(self.prometheus), has(self.datadog), has(self.newRelic)].exists_one(given, given)",message="it is asked of one system: give exactly one of prometheus, datadog and newRelic"
// +kubebuilder:validation:XValidation:rule="has(self.atLeast) || has(self.atMost)",message="it has no bound: give atLeast, atMost, or both"
// +kubebuilder:validation:XValidation:rule="!has(self.atLeast) || !has(self.atMost) || !self.atLeast.matches('^-?[0-9]+([.][0-9]+)?$') || !self.atMost.matches('^-?[0-9]+([.][0-9]+)?$') || double(self.atLeast) <= double(self.atMost)",message="no figure is both at least atLeast and at most atMost: let atLeast be the smaller one"
type ShiftMetric struct {
	// Name of the figure in verdicts and notices.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// Prometheus is asked for an instant vector with one element or a scalar.
	// +optional
	Prometheus *PrometheusMetric `json:"prometheus,omitempty"`
	// Datadog is asked for a timeseries, of which the newest finished point counts.
	// +optional
	Datadog *DatadogMetric `json:"datadog,omitempty"`
	// NewRelic is asked for a NRQL query with one figure.
	// +optional
	NewRelic *NewRelicMetric `json:"newRelic,omitempty"`
	// AtLeast is how small the figure may be, a decimal number.
	// +optional
	AtLeast SignedDecimal `json:"atLeast,omitempty"`
	// AtMost is how great the figure may be, a decimal number.
	// +optional
	AtMost SignedDecimal `json:"atMost,omitempty"`
	// FailureThreshold is how many samples in a row must be out of bounds before the guard fails; fewer
	// hold. A sample is taken every half window, at most every 15s. Default: 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
	// Timeout of a query, from 100ms to 1m. Default: 10s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('100ms') && duration(self) <= duration('1m')",message="it is out of bounds: write 100ms to 1m, in the units h, m, s and ms"
	// +kubebuilder:default="10s"
	Timeout metav1.Duration `json:"timeout,omitempty"`
}

// SignedDecimal is a decimal number, for example "-0.5".
//
// +kubebuilder:validation:MaxLength=26
// +kubebuilder:validation:Pattern=`^-?[0-9]{1,15}(\.[0-9]{1,9})?$`
type SignedDecimal string

// PrometheusMetric is a PromQL query.
type PrometheusMetric struct {
	// Address of the server, for example http://prometheus.monitoring:9090.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && size(url(self).getHost()) > 0",message="it is no address: write http:// or https://, a host, and a port if need be"
	Address string `json:"address"`
	// Query in PromQL.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Query string `json:"query"`
	// Credentials: key token for a bearer token, or username and password.
	// +optional
	Credentials *CredentialsReference `json:"credentials,omitempty"`
}

// DatadogMetric is a metrics query of Datadog.
type DatadogMetric struct {
	// Site is Datadog's, for example datadoghq.com or ap1.datadoghq.com.
	// +optional
	// +kubebuilder:default=datadoghq.com
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)+$')",message="it is no name of a site: write that of the web address after app., for example datadoghq.eu"
	Site string `json:"site,omitempty"`
	// Query as in a dashboard.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Query string `json:"query"`
	// Credentials: keys api-key and application-key.
	Credentials CredentialsReference `json:"credentials"`
}

// NewRelicMetric is a NRQL query.
type NewRelicMetric struct {
	// Region of the account: US or EU.
	// +optional
	// +kubebuilder:default=US
	// +kubebuilder:validation:Enum=US;EU
	Region string `json:"region,omitempty"`
	// AccountID of the account that has the data.
	// +kubebuilder:validation:Minimum=1
	AccountID int64 `json:"accountID"`
	// Query in NRQL, with one figure as its result.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Query string `json:"query"`
	// Credentials: key api-key.
	Credentials CredentialsReference `json:"credentials"`
}

// CredentialsReference says where credentials are: a Secret in the shift's
// namespace, or, without Kubernetes, a directory with one file for each key.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretName) != has(self.directory)",message="they are in one place: give exactly one of secretName and directory"
type CredentialsReference struct {
	// SecretName is a Secret's name in the namespace of the shift. The control
	// plane may read it only where a Role says so.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`
	// Directory with files named as the keys, on the control plane's host.
	// It is read only without Kubernetes.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/')",message="it depends on where the control plane was started: write an absolute path"
	// +kubebuilder:validation:MaxLength=4096
	Directory string `json:"directory,omitempty"`
}
