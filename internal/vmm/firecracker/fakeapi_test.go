package firecracker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// fakeAPI is an HTTP server that answers as Firecracker's does. What a request
// is allowed to be is in endpointRules; what it brings about is up to vmm.
type fakeAPI struct {
	release version
	id      string
	vmm     fakeVMM
	log     func(format string, args ...any)

	mu      sync.Mutex // one request at a time
	started bool
	seen    map[string]int // requests by method and path
}

// fakeVMM does what an accepted request asks for. An error becomes the fault's
// message.
type fakeVMM interface {
	apply(method, path string, body map[string]any) error
}

// fault is an error in Firecracker's words, which are sentences.
type fault string

func (f fault) Error() string { return string(f) }

func faultf(format string, args ...any) error { return fault(fmt.Sprintf(format, args...)) }

func newFakeAPI(release version, id string, vmm fakeVMM) *fakeAPI {
	return &fakeAPI{
		release: release, id: id, vmm: vmm, seen: map[string]int{},
		log: func(string, ...any) {},
	}
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Server", "Firecracker API")
	w.Header().Set("Content-Type", "application/json")
	if r.TransferEncoding != nil || r.ContentLength < 0 {
		reply(w, http.StatusBadRequest, map[string]string{"error": "Unsupported header: Transfer-Encoding"})
		return
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	f.log("The API server received a %s request on %q with body %s.", r.Method, r.URL.Path, data)
	result, err := f.handle(r.Method, r.URL.Path, data)
	switch {
	case err != nil:
		f.log("Received Error. Status code: 400 Bad Request. Message: %v", err)
		reply(w, http.StatusBadRequest, map[string]string{"fault_message": err.Error()})
	case result != nil:
		reply(w, http.StatusOK, result)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		panic(err) // a mistake in the fake
	}
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client may have gone
}

var (
	errNotBefore = faultf("The requested operation is not supported before starting the microVM.")
	errNotAfter  = faultf("The requested operation is not supported after starting the microVM.")
)

func (f *fakeAPI) handle(method, path string, data []byte) (any, error) {
	rule, id, ok := findEndpoint(method, path)
	if !ok || f.release.less(rule.since) {
		return nil, faultf("Invalid request method and/or path: %s %s.", method, strings.TrimPrefix(path, "/"))
	}
	if method == http.MethodGet {
		if len(data) > 0 {
			return nil, faultf("GET request cannot have a body.")
		}
		return f.get(path), nil
	}
	if len(data) == 0 {
		return nil, faultf("Empty %s request.", method)
	}
	body, err := f.decode(rule, id, data)
	if err != nil {
		return nil, err
	}
	if err := f.checkPhase(rule, body); err != nil {
		return nil, err
	}
	f.seen[method+" "+path]++
	if rule.once && f.seen[method+" "+path] > 1 {
		return nil, errors.New("it was set before")
	}
	if err := f.vmm.apply(method, path, body); err != nil {
		return nil, err
	}
	if body["action_type"] == actionStart {
		f.started = true
	}
	return nil, nil
}

func (f *fakeAPI) get(path string) any {
	state := stateNotStarted
	if f.started {
		state = "Running"
	}
	if path == "/" {
		return map[string]string{"id": f.id, "state": state, "vmm_version": f.release.String(), "app_name": "Firecracker"}
	}
	return map[string]string{"firecracker_version": f.release.String()}
}

func (f *fakeAPI) checkPhase(rule endpointRule, body map[string]any) error {
	when := rule.when
	switch body["action_type"] {
	case actionStart:
		when = beforeStart
	case actionCtrlAltDel, "FlushMetrics":
		when = afterStart
	}
	switch {
	case when == beforeStart && f.started:
		return errNotAfter
	case when == afterStart && !f.started:
		return errNotBefore
	}
	return nil
}

func findEndpoint(method, path string) (endpointRule, string, bool) {
	for _, rule := range endpointRules {
		if rule.method != method {
			continue
		}
		prefix, takesID := strings.CutSuffix(rule.path, "{}")
		if !takesID && path == rule.path {
			return rule, "", true
		}
		if id, ok := strings.CutPrefix(path, prefix); ok && takesID {
			return rule, id, true
		}
	}
	return endpointRule{}, "", false
}

// resourcePattern matches ids that Firecracker takes.
var resourcePattern = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

func (f *fakeAPI) decode(rule endpointRule, id string, data []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	var body map[string]any
	if err := decoder.Decode(&body); err != nil {
		return nil, faultf("An error occurred when deserializing the json body of a request: %v.", err)
	}
	if err := f.checkFields(rule.fields, body); err != nil {
		return nil, faultf("An error occurred when deserializing the json body of a request: %v at line 1 column 1.", err)
	}
	switch {
	case rule.idField == "":
	case !resourcePattern.MatchString(id):
		return nil, faultf("API Resource IDs can only contain alphanumeric characters and underscores.")
	case body[rule.idField] != id:
		return nil, faultf("The id from the path does not match the id from the body!")
	}
	return body, nil
}

func (f *fakeAPI) checkFields(rules []fieldRule, body map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(body)) {
		i := slices.IndexFunc(rules, func(r fieldRule) bool { return r.name == name })
		if i < 0 || f.release.less(rules[i].since) {
			return fmt.Errorf("unknown field `%s`", name)
		}
		if err := f.checkValue(rules[i], body[name]); err != nil {
			return err
		}
	}
	for _, rule := range rules {
		if _, ok := body[rule.name]; rule.required && !ok {
			return fmt.Errorf("missing field `%s`", rule.name)
		}
	}
	return nil
}

func (f *fakeAPI) checkValue(rule fieldRule, value any) error {
	invalid := fmt.Errorf("invalid type: %v, expected %s for `%s`", value, rule.kind, rule.name)
	switch v := value.(type) {
	case string:
		if rule.kind != text {
			return invalid
		}
		if rule.oneOf != nil && !slices.Contains(rule.oneOf, v) {
			return fmt.Errorf("unknown variant `%s`, expected one of %v", v, rule.oneOf)
		}
	case float64:
		if rule.kind != integer || v != math.Trunc(v) {
			return invalid
		}
		if int64(v) < rule.min || rule.max != 0 && int64(v) > rule.max {
			return fmt.Errorf("invalid value: %v for `%s`", v, rule.name)
		}
	case bool:
		if rule.kind != boolean {
			return invalid
		}
	case map[string]any:
		if rule.kind != object {
			return invalid
		}
		return f.checkFields(rule.fields, v)
	default:
		return invalid
	}
	return nil
}
