package firecracker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/vmm"
)

// fullSpec uses everything that a spec can say.
func fullSpec() (vmm.Spec, NetworkLimits) {
	return vmm.Spec{
			ID: "0123456789ab", Name: "web",
			Kernel: "/k/vmlinux", Initramfs: "/k/initramfs", VCPUs: 2, MemoryMiB: 2048,
			Drives: []vmm.Drive{
				{ID: "image", Path: "/images/rootfs.ext4", ReadOnly: true},
				{ID: "kernel-modules", Path: "/k/modules", ReadOnly: true},
				{ID: "disk", Path: "/vms/disk.ext4"},
			},
			NIC: vmm.NIC{Tap: "bgr0123456789", MAC: "06:00:ac:10:00:05"},
		}, NetworkLimits{
			ToGuest:   Limit{BytesPerSecond: 1 << 20, PacketsPerSecond: 1000},
			FromGuest: Limit{BytesPerSecond: 1 << 19},
		}
}

func TestRequests(t *testing.T) {
	var got strings.Builder
	for _, r := range requests(fullSpec()) {
		body, err := json.MarshalIndent(r.body, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s %s %s\n", r.method, r.path, body)
	}
	golden := filepath.Join("testdata", "requests.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("requests differ from %s (-want +got):\n%s", golden, diff)
	}
}

// acceptAll is a VMM that nothing fails in.
type acceptAll struct{}

func (acceptAll) apply(string, string, map[string]any) error { return nil }

// serve makes a request to a fake.
func serve(t *testing.T, f *fakeAPI, r request) *httptest.ResponseRecorder {
	t.Helper()
	var body string
	if r.body != nil {
		data, err := json.Marshal(r.body)
		if err != nil {
			t.Fatal(err)
		}
		body = string(data)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest(r.method, r.path, strings.NewReader(body)))
	return w
}

// TestEveryReleaseTakesTheRequests holds all that is sent against the rules of
// the oldest release that is supported and of the newest that is known.
func TestEveryReleaseTakesTheRequests(t *testing.T) {
	newest, err := parseVersion(newestFake)
	if err != nil {
		t.Fatal(err)
	}
	for _, release := range []version{oldest, newest} {
		fake := newFakeAPI(release, "x", acceptAll{})
		calls := append(requests(fullSpec()), put("/actions", instanceAction{actionCtrlAltDel}))
		for _, r := range calls {
			if w := serve(t, fake, r); w.Code != http.StatusNoContent {
				t.Errorf("%v: %s %s: %d %s", release, r.method, r.path, w.Code, w.Body)
			}
		}
	}
}

// TestFakeRefuses checks the fake itself: what it let through by mistake would
// fail on a real Firecracker only.
func TestFakeRefuses(t *testing.T) {
	type m = map[string]any
	drive := func(id string, more m) m {
		body := m{"drive_id": id, "is_root_device": false, "path_on_host": "/d"}
		for k, v := range more {
			body[k] = v
		}
		return body
	}
	tests := map[string]struct {
		release string
		request request
		want    string
	}{
		"unknown field":    {"1.16.1", put("/machine-config", m{"vcpu_count": 1, "mem_size_mib": 1, "foo": 1}), "unknown field `foo`"},
		"missing field":    {"1.16.1", put("/machine-config", m{"vcpu_count": 1}), "missing field `mem_size_mib`"},
		"wrong type":       {"1.16.1", put("/machine-config", m{"vcpu_count": "1", "mem_size_mib": 1}), "invalid type"},
		"fraction":         {"1.16.1", put("/machine-config", m{"vcpu_count": 1.5, "mem_size_mib": 1}), "invalid type"},
		"too large":        {"1.16.1", put("/machine-config", m{"vcpu_count": 33, "mem_size_mib": 1}), "invalid value"},
		"not in the list":  {"1.16.1", put("/drives/a", drive("a", m{"cache_type": "None"})), "unknown variant"},
		"nested":           {"1.16.1", put("/drives/a", drive("a", m{"rate_limiter": m{"ops": m{"size": 1}}})), "missing field `refill_time`"},
		"other id":         {"1.16.1", put("/drives/a", drive("b", nil)), "does not match the id from the body"},
		"malformed id":     {"1.16.1", put("/drives/a-b", drive("a-b", nil)), "can only contain alphanumeric"},
		"no such path":     {"1.16.1", put("/nope", m{}), "Invalid request method and/or path: PUT nope."},
		"no body":          {"1.16.1", put("/actions", nil), "Empty PUT request."},
		"too early":        {"1.16.1", put("/actions", instanceAction{actionCtrlAltDel}), "not supported before starting"},
		"newer field":      {"1.15.1", put("/network-interfaces/e", m{"iface_id": "e", "host_dev_name": "t", "mtu": 1500}), "unknown field `mtu`"},
		"newer path":       {"1.13.2", put("/serial", m{}), "Invalid request method and/or path: PUT serial."},
		"guest's own cid":  {"1.16.1", put("/vsock", m{"guest_cid": 2, "uds_path": "v"}), "invalid value"},
		"unknown action":   {"1.16.1", put("/actions", instanceAction{"Stop"}), "unknown variant"},
		"body is no map":   {"1.16.1", put("/entropy", []int{1}), "deserializing the json body"},
		"null for a value": {"1.16.1", put("/vsock", m{"guest_cid": nil, "uds_path": "v"}), "invalid type"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			release, err := parseVersion(test.release)
			if err != nil {
				t.Fatal(err)
			}
			w := serve(t, newFakeAPI(release, "x", acceptAll{}), test.request)
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), test.want) {
				t.Errorf("got %d %s, want a fault with %q", w.Code, w.Body, test.want)
			}
		})
	}
	fake := newFakeAPI(oldest, "x", acceptAll{})
	for _, r := range requests(fullSpec()) {
		serve(t, fake, r)
	}
	if w := serve(t, fake, put("/entropy", m{})); !strings.Contains(w.Body.String(), "not supported after starting") {
		t.Errorf("after the start: %s", w.Body)
	}
}

func TestVersion(t *testing.T) {
	for text, want := range map[string]version{
		"1.16.1": {1, 16, 1}, "v1.12.0": {1, 12, 0}, "1.17.0-dev": {1, 17, 0}, "v1.16.1-12-gabcdef": {1, 16, 1},
	} {
		if got, err := parseVersion(text); err != nil || got != want {
			t.Errorf("parseVersion(%q) = %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1.16", "x1.16.1", "1.16.1 beta", "1.16.99999999999999999999"} {
		if got, err := parseVersion(text); err == nil {
			t.Errorf("parseVersion(%q) = %v", text, got)
		}
	}
	if a, b := (version{1, 9, 9}), (version{1, 12, 0}); !a.less(b) || b.less(a) || a.less(a) {
		t.Error("versions are ordered wrong")
	}
}
