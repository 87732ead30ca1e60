package api

// Route is one call of the daemon's HTTP API, shared by client and server so
// that they can't disagree. Req is the JSON body of a POST (and the query of
// nothing else); Reply is the JSON body of the answer. {name} segments in Path
// are filled by the client in order and read by the server with PathValue.
type Route[Req, Reply any] struct {
	Method string
	Path   string
	Doc    string // one line for the API page
}

// Stream is a Route whose answer is a stream of newline-delimited JSON
// Events: any number of progress events and then exactly one result or error.
// Closing the request cancels the work.
type Stream[Req, Reply any] struct {
	Method string
	Path   string
	Doc    string
}

// None is the request or reply of a route that has none.
type None struct{}

// The daemon's API.
var (
	GetVersion = Route[None, Version]{"GET", "/v1/version", "version and pid of bangerd"}
	GetHost    = Route[None, Host]{"GET", "/v1/host", "driver choice and KVM probe"}
	Shutdown   = Route[None, None]{"POST", "/v1/shutdown", "end bangerd; running VMs go on"}

	ListVMs       = Route[None, []VM]{"GET", "/v1/vms", "every VM"}
	GetVM         = Route[None, VM]{"GET", "/v1/vms/{vm}", "one VM, by name or id"}
	CreateVMRoute = Stream[CreateVM, VM]{"POST", "/v1/vms", "create and start a VM"}
	StartVMRoute  = Stream[StartVM, VM]{"POST", "/v1/vms/{vm}/start", "start a stopped VM"}
	StopVMRoute   = Stream[StopVM, VM]{"POST", "/v1/vms/{vm}/stop", "stop a running VM"}
	DeleteVMRoute = Route[DeleteVM, None]{"POST", "/v1/vms/{vm}/delete", "delete a VM and all it owns"}
	GetAccess     = Route[None, Access]{"GET", "/v1/vms/{vm}/access", "how to log in by SSH"}

	ListImages         = Route[None, []Image]{"GET", "/v1/images", "every image on this host"}
	GetImage           = Route[None, Image]{"GET", "/v1/images/{image}", "one image"}
	ListCatalogImages  = Route[None, []CatalogEntry]{"GET", "/v1/catalog/images", "the images of the catalog"}
	PullImageRoute     = Stream[PullImage, Image]{"POST", "/v1/images/pull", "get an image of the catalog, a registry or a bundle"}
	RegisterImageRoute = Route[RegisterImage, Image]{"POST", "/v1/images/register", "use a root file system in place"}
	BuildImageRoute    = Stream[BuildImage, Image]{"POST", "/v1/images/build", "build an image of a recipe or a Dockerfile"}
	CommitImageRoute   = Stream[CommitImage, Image]{"POST", "/v1/images/commit", "make an image of a VM"}
	ExportImageRoute   = Stream[ExportImage, Exported]{"POST", "/v1/images/{image}/export", "write an image's bundle"}
	DeleteImageRoute   = Route[None, None]{"POST", "/v1/images/{image}/delete", "delete an image that no VM uses"}
	PruneImagesRoute   = Route[Prune, Pruned]{"POST", "/v1/images/prune", "delete unused images that can be had again, and their caches"}

	ListKernels        = Route[None, []Kernel]{"GET", "/v1/kernels", "every kernel on this host"}
	GetKernel          = Route[None, Kernel]{"GET", "/v1/kernels/{kernel}", "one kernel"}
	ListCatalogKernels = Route[None, []CatalogEntry]{"GET", "/v1/catalog/kernels", "the kernels of the catalog"}
	PullKernelRoute    = Stream[PullKernel, Kernel]{"POST", "/v1/kernels/pull", "get a kernel of the catalog or a bundle"}
	ImportKernelRoute  = Stream[ImportKernel, Kernel]{"POST", "/v1/kernels/import", "copy the user's own kernel"}
	ExportKernelRoute  = Stream[ExportImage, Exported]{"POST", "/v1/kernels/{kernel}/export", "write a kernel's bundle"}
	DeleteKernelRoute  = Route[None, None]{"POST", "/v1/kernels/{kernel}/delete", "delete a kernel that nothing uses"}
	PruneKernelsRoute  = Route[Prune, Pruned]{"POST", "/v1/kernels/prune", "delete unused kernels that can be had again"}

	GetUsage = Route[None, Usage]{"GET", "/v1/usage", "what banger takes on the host's disk"}
)

// Routes that are not JSON in, JSON out.
const (
	// LogsPath (GET) answers the console log as text; ?follow=1 goes on until
	// the client leaves.
	LogsPath = "/v1/vms/{vm}/logs"
	// DialPath (POST, Upgrade: banger-stream) answers 101 and becomes a raw
	// connection to a port of the guest's agent.
	DialPath = "/v1/vms/{vm}/dial/{port}"
	// UpgradeProtocol is the Upgrade header of DialPath.
	UpgradeProtocol = "banger-stream"
	// VersionHeader carries the version of either side on every message.
	VersionHeader = "Banger-Version"
)
