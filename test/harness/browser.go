package harness

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Browser is a Chromium without a window. It is spoken to over a pipe, in the DevTools protocol: a message of JSON, then a
// NUL. https://chromedevtools.github.io/devtools-protocol/ has the commands.
type Browser struct {
	t       TB
	out     *os.File
	session string

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
	loaded  chan struct{}
	// complaints are what the browser logs as errors: scripts that fail, and what a policy of the page refuses.
	complaints []string
}

type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// browserPatience is how long a browser may take for one command.
const browserPatience = 60 * time.Second

// StartBrowser starts a Chromium with a profile of its own. It ends with the test.
func StartBrowser(t TB) *Browser {
	t.Helper()
	path, err := FindTool("chromium")
	if err != nil {
		t.Fatalf("%v", err)
	}
	theirIn, out, err := os.Pipe()
	if err != nil {
		t.Fatalf("browser: %v", err)
	}
	in, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatalf("browser: %v", err)
	}
	b := &Browser{t: t, out: out, waiting: make(map[int]chan reply), loaded: make(chan struct{}, 16)}
	profile := t.TempDir()
	process := Start(t, Command{
		Name: "chromium", Path: path, Files: []*os.File{theirIn, theirOut},
		// Tests run as root, in namespaces; the pages are our own.
		Args: []string{
			"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir=" + profile, "about:blank",
		},
		Env: []string{"HOME=" + profile, "XDG_CONFIG_HOME=" + profile, "XDG_CACHE_HOME=" + profile},
	})
	_, _ = theirIn.Close(), theirOut.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(in)
	}()
	t.Cleanup(func() {
		process.Kill()
		_ = out.Close()
		<-read
		_ = in.Close()
	})
	var target struct {
		ID string `json:"targetId"`
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		ID string `json:"sessionId"`
	}
	b.call("Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &attached)
	b.session = attached.ID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

// read hands answers to those who wait for them, until the pipe ends.
func (b *Browser) read(in *os.File) {
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		text, err := lines.ReadBytes(0)
		if err != nil {
			return
		}
		var r reply
		if json.Unmarshal(text[:len(text)-1], &r) != nil {
			continue
		}
		b.mu.Lock()
		switch {
		case r.ID != 0:
			if c := b.waiting[r.ID]; c != nil {
				delete(b.waiting, r.ID)
				c <- r
			}
		case r.Method == "Page.loadEventFired":
			select {
			case b.loaded <- struct{}{}:
			default:
			}
		case r.Method == "Runtime.exceptionThrown":
			b.complaints = append(b.complaints, string(r.Params))
		case r.Method == "Log.entryAdded":
			var p struct {
				Entry struct{ Level, Text, URL string } `json:"entry"`
			}
			if json.Unmarshal(r.Params, &p) == nil && p.Entry.Level == "error" {
				b.complaints = append(b.complaints, p.Entry.Text+" "+p.Entry.URL)
			}
		}
		b.mu.Unlock()
	}
}

// call gives a command and waits for its answer.
func (b *Browser) call(method string, params map[string]any, out any) {
	b.t.Helper()
	if err := b.try(method, params, out); err != nil {
		b.t.Fatalf("browser: %s: %v", method, err)
	}
}

func (b *Browser) try(method string, params map[string]any, out any) error {
	answered := make(chan reply, 1)
	b.mu.Lock()
	b.next++
	id := b.next
	b.waiting[id] = answered
	message := map[string]any{"id": id, "method": method}
	if params != nil {
		message["params"] = params
	}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err == nil {
		_, err = b.out.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case r := <-answered:
		switch {
		case r.Error != nil:
			return errors.New(r.Error.Message)
		case out != nil:
			return json.Unmarshal(r.Result, out)
		}
		return nil
	case <-time.After(browserPatience):
		return fmt.Errorf("no answer within %s", browserPatience)
	}
}

// Open goes to an address and waits until the page is loaded.
func (b *Browser) Open(address string) {
	b.t.Helper()
	for len(b.loaded) > 0 {
		<-b.loaded
	}
	var went struct {
		Error string `json:"errorText"`
	}
	b.call("Page.navigate", map[string]any{"url": address}, &went)
	if went.Error != "" {
		b.t.Fatalf("browser: %s: %s", address, went.Error)
	}
	b.Loaded()
}

// Loaded waits until the page that something has led to is loaded.
func (b *Browser) Loaded() {
	b.t.Helper()
	select {
	case <-b.loaded:
	case <-time.After(browserPatience):
		b.t.Fatalf("browser: the page is not loaded after %s", browserPatience)
	}
}

// Eval returns the value of an expression of JavaScript as text.
func (b *Browser) Eval(expression string) string {
	b.t.Helper()
	var out struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		Exception *struct {
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &out)
	if out.Exception != nil {
		b.t.Fatalf("browser: %s: %s", expression, out.Exception.Exception.Description)
	}
	return fmt.Sprint(out.Result.Value)
}

// Await waits until an expression is true.
func (b *Browser) Await(expression string) {
	b.t.Helper()
	Eventually(b.t, browserPatience, expression, func() error {
		if got := b.Eval("Boolean(" + expression + ")"); got != "true" {
			return errors.New("it is not")
		}
		return nil
	})
}

// Click presses what a selector finds, and waits for the page that it leads to.
func (b *Browser) Click(selector string) {
	b.t.Helper()
	for len(b.loaded) > 0 {
		<-b.loaded
	}
	b.Eval(fmt.Sprintf("document.querySelector(%q).click()", selector))
	b.Loaded()
}

// Tab presses the key.
func (b *Browser) Tab() {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}, nil)
	}
}

// Size makes the window so large, in CSS pixels; narrow ones are those of a phone.
func (b *Browser) Size(width, height int) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
}

// Dark has the system ask for dark colours.
func (b *Browser) Dark(on bool) {
	b.t.Helper()
	value := "light"
	if on {
		value = "dark"
	}
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": value}}}, nil)
}

// Scripts lets pages run scripts, or not.
func (b *Browser) Scripts(on bool) {
	b.t.Helper()
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": !on}, nil)
}

// Screenshot writes the whole page as it is seen to a file.
func (b *Browser) Screenshot(file string) {
	b.t.Helper()
	var out struct {
		Data string `json:"data"`
	}
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &out)
	data, err := base64.StdEncoding.DecodeString(out.Data)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o755)
	}
	if err == nil {
		err = os.WriteFile(file, data, 0o644)
	}
	if err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

// Complaints are what the browser has logged as errors since the last call.
func (b *Browser) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.complaints
	b.complaints = nil
	return out
}
