package vm

import (
	"crypto/rand"
	"encoding/hex"
	mathrand "math/rand/v2"
	"regexp"

	"banger/internal/api"
	"banger/internal/naming"
)

// idSyntax is what newID makes. A name of that form could be taken for an id.
var idSyntax = regexp.MustCompile(`^[0-9a-f]{12}$`)

func checkName(name string) error {
	if !naming.IsLabel(name) || idSyntax.MatchString(name) {
		return api.Errorf(api.CodeInvalid, "%q can't be the name of a VM", name).
			WithHint("use up to 63 lower-case letters, digits and '-', with a letter or digit at both ends")
	}
	return nil
}

// newID returns 12 random hex digits.
func newID() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}

var adjectives = []string{
	"amber", "bold", "brave", "bright", "brisk", "calm", "clever", "cosy", "crisp", "curious",
	"daring", "deft", "eager", "early", "fair", "fleet", "fond", "frank", "fresh", "gentle",
	"glad", "golden", "grand", "happy", "honest", "humble", "jolly", "keen", "kind", "lively",
	"loyal", "lucky", "lunar", "mellow", "merry", "mild", "neat", "nimble", "noble", "polar",
	"proud", "quick", "quiet", "rapid", "ready", "rustic", "sharp", "shiny", "silent", "silver",
	"smart", "snowy", "solar", "spry", "steady", "sunny", "swift", "tidy", "vivid", "warm", "wise", "witty",
}

var nouns = []string{
	"acorn", "alder", "aspen", "badger", "beaver", "birch", "bison", "brook", "cedar", "cliff",
	"comet", "coral", "crane", "delta", "eagle", "ember", "falcon", "fern", "finch", "fjord",
	"fox", "gecko", "glade", "grove", "harbor", "hare", "hawk", "heron", "hill", "iris",
	"island", "jay", "lake", "lark", "lemur", "lynx", "maple", "marten", "meadow", "moose",
	"moss", "newt", "oak", "otter", "owl", "panda", "pebble", "pine", "puffin", "raven",
	"reef", "ridge", "river", "robin", "seal", "sparrow", "stone", "swan", "tiger", "trout", "vale", "wren",
}

// generateName returns a name that is easy to say and type. It need not be
// free.
func generateName() string {
	return adjectives[mathrand.IntN(len(adjectives))] + "-" + nouns[mathrand.IntN(len(nouns))]
}
