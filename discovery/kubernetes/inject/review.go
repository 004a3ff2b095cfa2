package inject

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/json"
)

// Path is where the webhook is asked.
const Path = "/inject"

// maxReview is how many bytes a review has at most. The API server takes requests of 3 MiB, and a review has one and
// what is about it.
const maxReview = 4 << 20

// review is an AdmissionReview with the pod as it came.
type review struct {
	metav1.TypeMeta `json:",inline"`
	Request         *admissionv1.AdmissionRequest `json:"request,omitempty"`
}

// Handler answers the API server's question what becomes of a pod.
type Handler struct {
	// Config returns the configuration that holds now.
	Config func() *Config
	// Namespace reads a namespace.
	Namespace func(ctx context.Context, name string) (Namespace, error)
	// Wants is told a namespace without the label whose pods prove themselves by tokens; nil tells nobody.
	Wants func(namespace string)
	Log   *slog.Logger

	decided *prometheus.CounterVec
}

// NewHandler returns a handler whose decisions are counted.
func NewHandler(config func() *Config, namespace func(context.Context, string) (Namespace, error), log *slog.Logger, registry prometheus.Registerer) *Handler {
	h := &Handler{Config: config, Namespace: namespace, Log: log, decided: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "causeway_injection_pods_total",
		Help: "Pods that the injection webhook was asked about, by what became of them: injected, left (as it was), refused, or failed (could not be decided).",
	}, []string{"result"})}
	for _, result := range []string{"injected", "left", "refused", "failed"} {
		h.decided.WithLabelValues(result)
	}
	registry.MustRegister(h.decided)
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Method != http.MethodPost || kind != "application/json" {
		http.Error(w, "send an AdmissionReview as application/json with POST", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if err != nil {
		status := http.StatusBadRequest
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	var asked review
	if err := json.UnmarshalCaseSensitivePreserveInts(body, &asked); err != nil {
		http.Error(w, "not an AdmissionReview: "+err.Error(), http.StatusBadRequest)
		return
	}
	if asked.APIVersion != "admission.k8s.io/v1" || asked.Kind != "AdmissionReview" || asked.Request == nil {
		http.Error(w, "send an AdmissionReview of admission.k8s.io/v1 with a request", http.StatusBadRequest)
		return
	}
	answer := h.answer(r.Context(), asked.Request)
	answer.UID = asked.Request.UID
	w.Header().Set("Content-Type", "application/json")
	_ = stdjson.NewEncoder(w).Encode(admissionv1.AdmissionReview{TypeMeta: asked.TypeMeta, Response: answer}) // a client that went away
}

// answer decides about a request.
func (h *Handler) answer(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if r.Kind.Group != "" || r.Kind.Kind != "Pod" || r.Operation != admissionv1.Create || r.SubResource != "" {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	var pod corev1.Pod
	if err := json.UnmarshalCaseSensitivePreserveInts(r.Object.Raw, &pod); err != nil {
		return h.failed(r, "", http.StatusBadRequest, fmt.Errorf("the pod cannot be read: %w", err))
	}
	name := r.Name
	if name == "" {
		if name = pod.Name; name == "" {
			name = pod.GenerateName + "*"
		}
	}
	ns, err := h.Namespace(ctx, r.Namespace)
	if err != nil {
		return h.failed(r, name, http.StatusInternalServerError, fmt.Errorf("its namespace cannot be read: %w", err))
	}
	var said []string
	for _, hint := range hints(pod.Labels, pod.Annotations) {
		said = append(said, hint.String())
	}
	injection, why, err := Inject(&pod, "", ns, h.Config())
	log := h.Log.With("namespace", r.Namespace, "pod", name)
	switch {
	case err != nil:
		h.decided.WithLabelValues("refused").Inc()
		log.Warn("refused a pod that should be a member of the mesh", "why", err.Error())
		return denied(r, name, http.StatusForbidden, err)
	case injection == nil:
		h.decided.WithLabelValues("left").Inc()
		log.Debug("left a pod as it was", "why", why)
		return &admissionv1.AdmissionResponse{Allowed: true, Warnings: said}
	}
	patch, err := stdjson.Marshal(injection.Patch(&pod))
	if err != nil {
		return h.failed(r, name, http.StatusInternalServerError, err)
	}
	if h.Wants != nil && injection.Token && ns.Labels[Label] != Enabled && (r.DryRun == nil || !*r.DryRun) {
		h.Wants(r.Namespace)
	}
	h.decided.WithLabelValues("injected").Inc()
	log.Info("injected a pod", "workload", injection.Workload, "capture", string(injection.Capture), "dryRun", r.DryRun != nil && *r.DryRun)
	if len(said) > 0 {
		log.Warn("a pod has labels or annotations that do nothing", "hints", said)
	}
	return &admissionv1.AdmissionResponse{Allowed: true, Warnings: said, Patch: patch, PatchType: new(admissionv1.PatchTypeJSONPatch)}
}

func (h *Handler) failed(r *admissionv1.AdmissionRequest, name string, code int32, err error) *admissionv1.AdmissionResponse {
	h.decided.WithLabelValues("failed").Inc()
	h.Log.Error("could not decide about a pod", "namespace", r.Namespace, "pod", name, "error", err)
	return denied(r, name, code, err)
}

func denied(r *admissionv1.AdmissionRequest, name string, code int32, err error) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: metav1.StatusReasonForbidden,
		Message: "pod " + types.NamespacedName{Namespace: r.Namespace, Name: name}.String() + ": " + err.Error(),
	}}
}
