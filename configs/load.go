package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds the size of a configuration file in bytes.
const maxFile = 1 << 20

// Stdin is a name of a file for [Load]: the standard input, read as if it were the file of this host's service. The certificates of its conf.d
// count, too.
const Stdin = "-"

// directory is where the file of the service is.
const directory = "/etc/mxcert"

// Load reads file and the certificates of conf.d/*.yaml beside it, fills in defaults and checks everything.
// All problems are reported at once: the error is a *Problems, which wraps the error of the operating system if a file could
// not be read (fs.ErrNotExist, fs.ErrPermission).
func Load(file string) (*Config, error) { return Read(file).Load() }

// Files holds the texts of a configuration, as they were at one moment: for a process that may not read the files later.
type Files struct {
	loader  *loader
	sources []*source
}

// Read reads the files that [Load] reads, without parsing them. Load reports the errors.
func Read(file string) *Files {
	f := &Files{loader: newLoader()}
	f.sources = f.loader.read(file)
	return f
}

// Load is the function [Load] for these texts. Call it once.
func (f *Files) Load() (*Config, error) { return f.loader.load(f.sources) }

// Fingerprint returns what [Config.Fingerprint] would return. ok is false if one of the files could not be read.
func (f *Files) Fingerprint() (fingerprint string, ok bool) {
	return fingerprintOf(f.sources), len(f.loader.problems) == 0
}

// Parse is Load for the text of one file without a conf.d; messages call it file.
func Parse(file string, text []byte) (*Config, error) {
	return newLoader().load([]*source{newSource(file, text)})
}

// defaultState is the default of the setting `state`.
const defaultState = "/var/lib/mxcert"

// stateKey finds the state directory without parsing the file, and stateWord finds whatever else may set it.
var (
	stateKey  = regexp.MustCompile(`(?m)^state:\s*"?(/[^"\s#]+)`)
	stateWord = regexp.MustCompile(`(?m)^[^#\n]*\bstate\b["']?\s*:`)
)

// State returns the state directory that the texts name, even if they are no configuration. If it is not sure, only Load can tell: then it is
// the default.
func (f *Files) State() (path string, sure bool) {
	for _, s := range f.sources {
		if s.fragment {
			continue // it has certificates only
		}
		if m := stateKey.FindSubmatch(s.text); m != nil {
			return string(m[1]), true
		}
		return defaultState, !stateWord.Match(s.text)
	}
	return defaultState, false
}

// read reads the main file and those of conf.d.
func (l *loader) read(file string) []*source {
	var sources []*source
	beside, read := filepath.Dir(file), readFile
	if file == Stdin {
		file, beside, read = "standard input", directory, func(string) ([]byte, error) { return readAll(os.Stdin) }
	}
	if data, err := read(file); err != nil {
		l.add(fileProblem(file, err))
	} else {
		sources = append(sources, newSource(file, data))
	}
	return append(sources, l.fragments(filepath.Join(beside, "conf.d"))...)
}

// load decodes the main file and the fragments, and checks the whole if it could read all of it.
func (l *loader) load(sources []*source) (*Config, error) {
	c := &Config{index: l.index}
	setDefaults(reflect.ValueOf(c).Elem())
	l.index.sources = sources
	complete := len(l.problems) == 0
	for _, src := range sources {
		root, ok := l.parse(src)
		complete = complete && ok
		if root != nil {
			l.src, l.first = src, len(c.Certificates)
			l.decodeFile(root, c)
		}
	}
	if complete && l.visited < maxNodes {
		l.check(c)
	}
	if err := l.result(); err != nil {
		return nil, err
	}
	c.warnings = l.warnings
	c.fingerprint = fingerprintOf(sources)
	return c, nil
}

// fingerprintOf hashes the texts in the order in which they were read, each after its length.
func fingerprintOf(sources []*source) string {
	sum := sha256.New()
	for _, src := range sources {
		fmt.Fprintf(sum, "%d\n", len(src.text))
		sum.Write(src.text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// decodeFile decodes the main file into c, or adds the certificates of a fragment to it.
func (l *loader) decodeFile(root *yaml.Node, c *Config) {
	if !l.src.fragment {
		l.decode(root, "", reflect.ValueOf(c).Elem(), field{})
		return
	}
	part := fragment{}
	l.decode(root, "", reflect.ValueOf(&part).Elem(), field{})
	c.Certificates = append(c.Certificates, part.Certificates...)
}

// fragment is what a file in conf.d may contain.
type fragment struct {
	Certificates []Certificate `yaml:"certificates"`
}

// fragments reads dir/*.yaml in name order. A missing directory is not a problem.
func (l *loader) fragments(dir string) []*source {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		l.add(fileProblem(dir, err))
		return nil
	}
	var sources []*source
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case filepath.Ext(name) == ".yaml":
			data, err := readFile(name)
			if err != nil {
				p := fileProblem(name, err)
				if errors.Is(err, fs.ErrNotExist) {
					p.Hint = "fix or remove the link"
				}
				l.add(p)
				continue
			}
			src := newSource(name, data)
			src.fragment = true
			sources = append(sources, src)
		case filepath.Ext(name) == ".yml":
			l.warnings = append(l.warnings, Problem{File: name, Message: "ignored: only files that end in .yaml are read",
				Hint: "rename it to " + strings.TrimSuffix(e.Name(), ".yml") + ".yaml"})
		}
	}
	return sources
}

// readFile reads a file of at most maxFile bytes.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

func readAll(f *os.File) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, errTooLarge
	}
	return data, nil
}

var errTooLarge = fmt.Errorf("larger than %d KiB", maxFile>>10)

// fileProblem says why a file could not be read and what to do about it.
func fileProblem(name string, err error) Problem {
	p := Problem{File: name, Message: "cannot be read: " + reason(err), cause: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Message = "there is no such file"
		p.Hint = "start from an example: mxcert config example > FILE"
	case errors.Is(err, fs.ErrPermission):
		p.Message = "no permission to read it"
		p.Hint = "run mxcert as root (sudo), or as the service's user if the file belongs to its group"
	case errors.Is(err, errTooLarge):
		p.Hint = "split the certificates over several files in conf.d"
	}
	return p
}

// reason returns the text of err without the operation and the path, which the message already has.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
