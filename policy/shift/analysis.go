package shift

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// refreshEvery is how long figures in the status may be old while the verdict
// stays. The guard looks twice a second; the API server need not store it as often.
const refreshEvery = 10 * time.Second

// Analyze returns the figures of a guard for the status. previous are those in the status: they stay until
// the verdict changes or ten seconds have passed, so that a status does not change at every look.
func Analyze(g *v1alpha1.ShiftGuard, o *Observation, v Verdict, now time.Time, previous *v1alpha1.ShiftAnalysis) *v1alpha1.ShiftAnalysis {
	if previous != nil && previous.Time != nil && previous.Verdict == string(v.Result) {
		if age := now.Sub(previous.Time.Time); age >= 0 && age < refreshEvery {
			return previous
		}
	}
	a := &v1alpha1.ShiftAnalysis{
		Time: &metav1.Time{Time: now}, Paths: pathFigures(o),
		Verdict: string(v.Result), Reason: v.Reason, LeftOut: leftOutText(o), Metrics: metricFigures(g, o),
	}
	setFigures(&a.Pods, &a.Instances, o, figures(g, &o.Source, &o.Target, o.TCP), figures(g, &o.Target, &o.Source, o.TCP))
	if s := o.Shadow; s != nil {
		a.Shadow = &v1alpha1.ShiftComparison{
			Compared: int64(s.Compared), StatusDiffers: int64(s.StatusDiffers), SizeDiffers: int64(s.SizeDiffers),
		}
		if s.Compared > 0 && !o.TCP {
			a.Shadow.P99, a.Shadow.ShadowP99 = latency(s.Answer.Quantile(.99)), latency(s.Mirror.Quantile(.99))
		}
	}
	return a
}

// maxError is how many bytes of an error a status has.
const maxError = 1024

// metricFigures returns the last answers of a guard's metrics.
func metricFigures(g *v1alpha1.ShiftGuard, o *Observation) []v1alpha1.ShiftMetricFigure {
	var out []v1alpha1.ShiftMetricFigure
	for i := range g.Metrics {
		f := v1alpha1.ShiftMetricFigure{Name: g.Metrics[i].Name}
		switch m := o.metric(f.Name); {
		case m == nil:
			f.Error = "no answer yet"
		case m.Error != "":
			f.Error = strings.ToValidUTF8(m.Error[:min(len(m.Error), maxError)], "")
		case !isFigure(m.Value):
			f.Error = fmt.Sprintf("it is %v, which is no figure to judge by", m.Value)
		default:
			f.Value = metricText(m.Value)
		}
		out = append(out, f)
	}
	return out
}

// setFigures puts what is told of source and target where the status has it: by the backing, for
// which it has a field each.
func setFigures(pods, instances **v1alpha1.ShiftFigures, o *Observation, source, target *v1alpha1.ShiftFigures) {
	for backing, f := range map[discovery.BackingName]*v1alpha1.ShiftFigures{o.From: source, o.To: target} {
		switch backing {
		case discovery.Pods:
			*pods = f
		case discovery.Instances:
			*instances = f
		}
	}
}

func figures(g *v1alpha1.ShiftGuard, c, other *Side, tcp bool) *v1alpha1.ShiftFigures {
	f := &v1alpha1.ShiftFigures{Requests: int64(c.Requests), StoodIn: int64(other.FailedOver), Open: int64(c.Open)} //nolint:gosec // far below 2^63
	if c.Requests > 0 {
		f.SuccessRate = successPercent(c.Failed(), c.Requests)
		f.Statuses = statusParts(c.Codes)
		if !tcp {
			f.P50, f.P99 = latency(c.Latency.Quantile(.5)), latency(c.Latency.Quantile(.99))
			if q := quantileOf(g); q != defaultQuantile {
				f.Quantile = latency(c.Latency.Quantile(q))
			}
		}
	}
	return f
}

// statusesShown is how many statuses of a side stand in a status, the most frequent first.
const statusesShown = 5

func statusParts(codes outcome.Codes) []v1alpha1.ShiftStatusPart {
	var out []v1alpha1.ShiftStatusPart
	n := codes.Total()
	for _, c := range codes.Commonest() {
		if len(out) < statusesShown {
			out = append(out, v1alpha1.ShiftStatusPart{Code: c.Code.String(), Percent: percent(rate(c.N, n))})
		}
	}
	return out
}

// mixText is the commonest statuses in words: "200 98 %, 404 1.5 %".
func mixText(codes outcome.Codes) string {
	var parts []string
	for _, s := range statusParts(codes)[:min(len(codes), reasonNames)] {
		parts = append(parts, s.Code+" "+s.Percent+" %")
	}
	return strings.Join(parts, ", ")
}

// successPercent returns a success rate in percent. It has as many nines as
// there are, so it is never rounded up to 100: "99.98", "99.9996".
func successPercent(failed, n uint64) string {
	if n == 0 || failed == 0 {
		return "100"
	}
	failing := 100 * rate(min(failed, n), n)
	// Two figures of the part that failed.
	digits := min(max(1, 1-int(math.Floor(math.Log10(failing)))), 6)
	scale := math.Pow10(digits)
	return trimZeros(strconv.FormatFloat(min(math.Floor((100-failing)*scale+1e-6), 100*scale-1)/scale, 'f', digits, 64))
}

// percent returns a rate in percent with two figures.
func percent(rate float64) string {
	p := 100 * rate
	if p == 0 {
		return "0"
	}
	digits := min(max(0, 1-int(math.Floor(math.Log10(p)))), 6)
	return trimZeros(strconv.FormatFloat(p, 'f', digits, 64))
}

// percentText is percent with its sign.
func percentText(rate float64) string { return percent(rate) + " %" }

// latency returns microseconds with three figures: "850µs", "8.41ms", "212ms", "1.24s".
func latency(micros float64) string {
	unit, v := "µs", micros
	switch {
	case micros >= 999_500:
		unit, v = "s", micros/1e6
	case micros >= 999.5:
		unit, v = "ms", micros/1e3
	}
	digits := 0
	if unit != "µs" && v > 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(v))))
	}
	return trimZeros(strconv.FormatFloat(v, 'f', digits, 64)) + unit
}

// thousands returns a count with its thousands apart: "1,204".
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// none begins what is said of very few.
func none(n uint64) string {
	if n <= 1 {
		return [...]string{"none was", "only 1 was"}[n]
	}
	return "only " + thousands(n) + " were"
}

// causeText counts failures of one cause in words.
func causeText(c outcome.Cause, n uint64) string {
	switch {
	case c == outcome.NoHost:
		return thousands(n) + " with no host"
	case c == outcome.Other:
		return thousands(n) + " other"
	case n == 1:
		return "1 " + c.String()
	}
	return thousands(n) + " " + c.String() + "s"
}

// burnText returns a burn rate with one place.
func burnText(r float64) string { return strconv.FormatFloat(min(r, 1e6), 'f', 1, 64) }

// remainingText returns the part of a budget that is left, in percent with one place.
func remainingText(part float64) string {
	return strconv.FormatFloat(max(math.Floor(1000*part+1e-6)/10, -1e6), 'f', 1, 64)
}

// trimFloat returns a number of the spec as it was written, as far as that can be told.
func trimFloat(f float64) string { return strconv.FormatFloat(f, 'g', 8, 64) }

func trimZeros(s string) string {
	if strings.Contains(s, ".") {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// hours returns a long duration in the unit that people use: "30d", "6h", "5m".
func hours(d time.Duration) string {
	switch {
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}
