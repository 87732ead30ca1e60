package firecracker

// The rules of Firecracker's API that the fake holds requests against, written
// down from its description (src/firecracker/swagger/firecracker.yaml), from its
// changelog, and from what release 1.16.1 was seen to answer. They are stricter than
// Firecracker only where its description is: a guest_cid below 3, say.

// kind is the JSON type of a field.
type kind string

const (
	text    kind = "a string"
	integer kind = "an integer"
	boolean kind = "a boolean"
	object  kind = "a map"
)

// fieldRule says what a field may hold. min and max are for integers; 0 for
// max is none.
type fieldRule struct {
	name     string
	kind     kind
	required bool
	since    version // the first release that knows it
	min, max int64
	oneOf    []string
	fields   []fieldRule // of an object
}

// phase is when a request is allowed.
type phase int

const (
	always phase = iota
	beforeStart
	afterStart
)

// endpointRule says what a request may be. A path that ends with /{} takes an
// id, which must be the field idField's value too.
type endpointRule struct {
	method, path string
	since        version
	when         phase
	once         bool
	idField      string
	fields       []fieldRule
}

var (
	tokenBucketRule = []fieldRule{
		{name: "size", kind: integer, required: true},
		{name: "refill_time", kind: integer, required: true},
		{name: "one_time_burst", kind: integer},
	}
	rateLimiterRule = []fieldRule{
		{name: "bandwidth", kind: object, fields: tokenBucketRule},
		{name: "ops", kind: object, fields: tokenBucketRule},
	}
	networkLimitRules = []fieldRule{
		{name: "rx_rate_limiter", kind: object, fields: rateLimiterRule},
		{name: "tx_rate_limiter", kind: object, fields: rateLimiterRule},
	}
)

var endpointRules = []endpointRule{
	{method: "GET", path: "/"},
	{method: "GET", path: "/version"},
	{method: "GET", path: "/machine-config"},
	{method: "GET", path: "/vm/config"},
	{method: "PUT", path: "/actions", fields: []fieldRule{
		{name: "action_type", kind: text, required: true, oneOf: []string{"FlushMetrics", "InstanceStart", "SendCtrlAltDel"}},
	}},
	{method: "PUT", path: "/boot-source", when: beforeStart, fields: []fieldRule{
		{name: "kernel_image_path", kind: text, required: true},
		{name: "initrd_path", kind: text},
		{name: "boot_args", kind: text},
	}},
	{method: "PUT", path: "/drives/{}", when: beforeStart, idField: "drive_id", fields: []fieldRule{
		{name: "drive_id", kind: text, required: true},
		{name: "is_root_device", kind: boolean, required: true},
		{name: "path_on_host", kind: text, required: true},
		{name: "is_read_only", kind: boolean},
		{name: "cache_type", kind: text, oneOf: []string{"Unsafe", "Writeback"}},
		{name: "io_engine", kind: text, oneOf: []string{"Sync", "Async"}},
		{name: "partuuid", kind: text},
		{name: "rate_limiter", kind: object, fields: rateLimiterRule},
	}},
	{method: "PATCH", path: "/drives/{}", when: afterStart, idField: "drive_id", fields: []fieldRule{
		{name: "drive_id", kind: text, required: true},
		{name: "path_on_host", kind: text},
		{name: "rate_limiter", kind: object, fields: rateLimiterRule},
	}},
	{method: "PUT", path: "/entropy", when: beforeStart, fields: []fieldRule{
		{name: "rate_limiter", kind: object, fields: rateLimiterRule},
	}},
	{method: "PUT", path: "/logger", when: beforeStart, fields: []fieldRule{
		{name: "log_path", kind: text},
		{name: "level", kind: text, oneOf: []string{"Off", "Error", "Warning", "Info", "Debug", "Trace"}},
		{name: "show_level", kind: boolean},
		{name: "show_log_origin", kind: boolean},
		{name: "module", kind: text},
	}},
	{method: "PUT", path: "/machine-config", when: beforeStart, fields: []fieldRule{
		{name: "vcpu_count", kind: integer, required: true, min: 1, max: 32},
		{name: "mem_size_mib", kind: integer, required: true, min: 1},
		{name: "smt", kind: boolean},
		{name: "cpu_template", kind: text},
		{name: "track_dirty_pages", kind: boolean},
		{name: "huge_pages", kind: text, oneOf: []string{"None", "2M"}},
	}},
	{method: "PUT", path: "/metrics", when: beforeStart, once: true, fields: []fieldRule{
		{name: "metrics_path", kind: text, required: true},
	}},
	{method: "PUT", path: "/network-interfaces/{}", when: beforeStart, idField: "iface_id", fields: append([]fieldRule{
		{name: "iface_id", kind: text, required: true},
		{name: "host_dev_name", kind: text, required: true},
		{name: "guest_mac", kind: text},
		{name: "mtu", kind: integer, since: version{1, 16, 0}, min: 68, max: 65535},
	}, networkLimitRules...)},
	{method: "PATCH", path: "/network-interfaces/{}", when: afterStart, idField: "iface_id", fields: append([]fieldRule{
		{name: "iface_id", kind: text, required: true},
	}, networkLimitRules...)},
	{method: "PUT", path: "/serial", when: beforeStart, since: version{1, 14, 0}, fields: []fieldRule{
		{name: "serial_out_path", kind: text},
		{name: "rate_limiter", kind: object, since: version{1, 16, 0}, fields: tokenBucketRule},
	}},
	{method: "PATCH", path: "/vm", when: afterStart, fields: []fieldRule{
		{name: "state", kind: text, required: true, oneOf: []string{"Paused", "Resumed"}},
	}},
	{method: "PUT", path: "/vsock", when: beforeStart, fields: []fieldRule{
		{name: "guest_cid", kind: integer, required: true, min: 3, max: 1<<32 - 1},
		{name: "uds_path", kind: text, required: true},
		{name: "vsock_id", kind: text},
	}},
}
