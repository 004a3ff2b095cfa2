package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"regexp"
	"runtime"
	"strings"
)

// Image is a container image of one layer, made from files of this machine. The same files
// make the same image, to the byte.
type Image struct {
	// Name with the registry and the tag, by which pods name it.
	Name string
	// Files in the order in which the layer has them; folders above them are made.
	Files []File
	// Entrypoint, Command, User, StopSignal: as a Dockerfile has them.
	Entrypoint, Command []string
	User, StopSignal    string
}

// File is a file of an [Image].
type File struct {
	// Path in the image.
	Path string
	// From is a file of this machine. Without it, Text is what the file has, and Folder makes
	// it a folder that everybody may write to.
	From   string
	Text   string
	Folder bool
	// Libraries adds the shared libraries that the program From needs, if it is not static, at
	// their own paths.
	Libraries bool
}

// Build writes the image as a docker archive, which containerd imports, and returns a
// digest of all that it is made of. Where the file is there already and made of the same, it stays.
func (i Image) Build(ctx context.Context, file string) (digest string, err error) {
	files, err := i.withLibraries(ctx)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", i.Name, err)
	}
	i.Files = files
	digest, err = i.digest()
	if err != nil {
		return "", fmt.Errorf("image %s: %w", i.Name, err)
	}
	before, err := os.ReadFile(file + ".digest")
	if _, missing := os.Stat(file); err == nil && missing == nil && string(before) == digest {
		return digest, nil
	}
	if err := i.write(file); err != nil {
		return "", fmt.Errorf("image %s: %w", i.Name, err)
	}
	return digest, os.WriteFile(file+".digest", []byte(digest), 0o644)
}

// digest is of the image's own fields and of the files' contents.
func (i Image) digest() (string, error) {
	sum := sha256.New()
	if err := json.NewEncoder(sum).Encode(i); err != nil {
		return "", err
	}
	for _, f := range i.Files {
		if f.From != "" {
			if err := add(sum, f.From); err != nil {
				return "", err
			}
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func add(sum hash.Hash, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(sum, f)
	return err
}

// library matches a line of ldd: "libc.so.6 => /lib/libc.so.6 (0x7f)" or "/lib64/ld.so (0x7f)".
var library = regexp.MustCompile(`(/\S+) \(0x`)

// withLibraries is the list of all files, each once, with programs' libraries.
func (i Image) withLibraries(ctx context.Context) ([]File, error) {
	var all []File
	have := make(map[string]bool)
	for _, f := range i.Files {
		if have[f.Path] {
			return nil, fmt.Errorf("%s is there twice", f.Path)
		}
		have[f.Path] = true
		all = append(all, f)
		if !f.Libraries {
			continue
		}
		out, err := exec.CommandContext(ctx, "ldd", f.From).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "not a dynamic executable") {
			return nil, fmt.Errorf("ldd %s: %w: %s", f.From, err, out)
		}
		for _, m := range library.FindAllStringSubmatch(string(out), -1) {
			if !have[m[1]] {
				have[m[1]] = true
				all = append(all, File{Path: m[1], From: m[1]})
			}
		}
	}
	return all, nil
}

// write writes the archive: the layer, the configuration and a manifest that names both.
func (i Image) write(file string) error {
	layer, err := os.Create(file + ".layer")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	sum := sha256.New()
	if err := i.writeLayer(io.MultiWriter(layer, sum)); err != nil {
		return err
	}
	diff := hex.EncodeToString(sum.Sum(nil))
	type config struct {
		Entrypoint, Cmd, Env []string
		User, WorkingDir     string
		StopSignal           string `json:",omitempty"`
	}
	configuration, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2026-01-01T00:00:00Z",
		"config": config{
			Entrypoint: i.Entrypoint, Cmd: i.Command, User: i.User, WorkingDir: "/", StopSignal: i.StopSignal,
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + diff}},
	})
	if err != nil {
		return err
	}
	id := sha256.Sum256(configuration)
	name := hex.EncodeToString(id[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{i.Name}, "Layers": []string{diff + "/layer.tar"}}})
	if err != nil {
		return err
	}
	out, err := os.Create(file + ".new")
	if err != nil {
		return err
	}
	defer out.Close()
	size, err := layer.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = layer.Seek(0, io.SeekStart)
	}
	archive := tar.NewWriter(out)
	err = errors.Join(err,
		entry(archive, tar.Header{Name: name, Size: int64(len(configuration)), Mode: 0o644}, bytes.NewReader(configuration)),
		entry(archive, tar.Header{Name: diff + "/layer.tar", Size: size, Mode: 0o644}, layer),
		entry(archive, tar.Header{Name: "manifest.json", Size: int64(len(manifest)), Mode: 0o644}, bytes.NewReader(manifest)),
		archive.Close(), out.Close())
	if err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func (i Image) writeLayer(w io.Writer) error {
	layer := tar.NewWriter(w)
	made := make(map[string]bool)
	for _, f := range i.Files {
		if err := folders(layer, made, path.Dir(f.Path)); err != nil {
			return err
		}
		if err := f.write(layer); err != nil {
			return err
		}
	}
	return layer.Close()
}

// folders makes a folder of the image and those above it.
func folders(layer *tar.Writer, made map[string]bool, dir string) error {
	if dir == "/" || made[dir] {
		return nil
	}
	if err := folders(layer, made, path.Dir(dir)); err != nil {
		return err
	}
	made[dir] = true
	return entry(layer, tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755}, nil)
}

func (f File) write(layer *tar.Writer) error {
	switch name := strings.TrimPrefix(f.Path, "/"); {
	case f.Folder:
		return entry(layer, tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o1777}, nil)
	case f.From == "":
		return entry(layer, tar.Header{Name: name, Size: int64(len(f.Text)), Mode: 0o644}, strings.NewReader(f.Text))
	default:
		from, err := os.Open(f.From)
		if err != nil {
			return err
		}
		defer from.Close()
		info, err := from.Stat()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return &fs.PathError{Op: "reading", Path: f.From, Err: fs.ErrInvalid}
		}
		mode := int64(0o644)
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		return entry(layer, tar.Header{Name: name, Size: info.Size(), Mode: mode}, from)
	}
}

func entry(w *tar.Writer, h tar.Header, from io.Reader) error {
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
	}
	if err := w.WriteHeader(&h); err != nil || from == nil {
		return err
	}
	_, err := io.Copy(w, from)
	return err
}
