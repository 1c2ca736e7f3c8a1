package page_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a tab of Debian's Chromium, without a screen, and a web server of its own that has one page.
type browser struct {
	ctx    context.Context
	server *httptest.Server

	mu    sync.Mutex
	shown []byte
	heard []string // what Chromium wrote to its console, and what it asked for beside the page
}

// browse starts Chromium.
func browse(t *testing.T) *browser {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal("chromium is not installed")
		}
		t.Skip("needs the Debian package chromium")
	}
	b := &browser{}
	b.server = httptest.NewServer(http.HandlerFunc(b.answer))
	t.Cleanup(b.server.Close)
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath("chromium"), chromedp.WSURLReadTimeout(time.Minute))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox refuses root
	}
	limited, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	allocated, stop := chromedp.NewExecAllocator(limited, options...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(allocated, chromedp.WithListener(b.hear))
	t.Cleanup(end)
	b.ctx = ctx
	return b
}

// answer is the web server.
func (b *browser) answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		b.note("the server was asked for " + r.URL.Path)
		http.NotFound(w, r)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	w.Header().Set("Content-Type", "text/html") // a page says itself which characters it has
	_, _ = w.Write(b.shown)
}

func (b *browser) note(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = append(b.heard, what)
}

// hear notes what a developer would see in Chromium's tools.
func (b *browser) hear(event any) {
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.note("console: " + e.Entry.Text)
	case *runtime.EventConsoleAPICalled:
		b.note(fmt.Sprintf("console: %s", e.Type))
	case *runtime.EventExceptionThrown:
		b.note("exception: " + e.ExceptionDetails.Text)
	case *network.EventRequestWillBeSent:
		if e.Request.URL != b.server.URL+"/" {
			b.note("request: " + e.Request.URL)
		}
	}
}

// show opens a page in a window of that width, in that scheme of colours and medium, and returns what is wrong with it.
func (b *browser) show(t *testing.T, page []byte, l look) (wrong []string) {
	t.Helper()
	b.mu.Lock()
	b.shown, b.heard = page, nil
	b.mu.Unlock()
	if err := b.dress(l); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(b.ctx, chromedp.Navigate(b.server.URL+"/")); err != nil {
		t.Fatal(err)
	}
	return b.measure(t, l)
}

// look is how a page is looked at.
type look struct {
	width         int64
	scheme, media string
}

func (l look) String() string { return fmt.Sprintf("%s-%s-%d", l.media, l.scheme, l.width) }

// dress makes the window as a look has it.
func (b *browser) dress(l look) error {
	_, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: 800, DeviceScaleFactor: 1, Mobile: l.width < 600})
	if err != nil {
		return err
	}
	_, err = chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: l.media, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}}})
	return err
}

// measure returns what is wrong with the page as it is shown now, and what Chromium has said since it was opened.
func (b *browser) measure(t *testing.T, l look) (wrong []string) {
	t.Helper()
	script, err := os.ReadFile("testdata/measure.js")
	if err != nil {
		t.Fatal(err)
	}
	if wrong, err = chromedp.Run(b.ctx, chromedp.Evaluate[[]string](fmt.Sprintf("(%s)(%d)", script, l.width))); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return append(wrong, b.heard...)
}

// looks are all windows, schemes and media of these tests. A4 paper with Chromium's margins is 718 px wide; 320 px are 1,280 px at a zoom of
// 400 % (WCAG 2.2, 1.4.10).
func looks() (list []look) {
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{320, 360, 1280} {
			list = append(list, look{width, scheme, "screen"})
		}
		list = append(list, look{718, scheme, "print"})
	}
	return list
}

// TestInChromium: in Debian's Chromium a page writes nothing to the console, asks for nothing, and fits into the window; texts have enough
// contrast, and none covers another. In light, in dark and on paper, with little, with trouble, and with much.
func TestInChromium(t *testing.T) {
	t.Parallel()
	b := browse(t)
	few := []look{{360, "light", "screen"}, {1280, "dark", "screen"}, {718, "light", "print"}} // for the same rows a thousand times
	for _, p := range pages() {
		page := render(t, p.sight)
		shown := false
		for _, l := range looks() {
			if p.name == "many" && !slices.Contains(few, l) {
				continue
			}
			var wrong []string
			if !shown {
				shown, wrong = true, b.show(t, page, l)
			} else if err := b.dress(l); err != nil { // a page that is open adapts itself
				t.Fatal(err)
			} else {
				wrong = b.measure(t, l)
			}
			for _, w := range wrong {
				t.Errorf("%s, %s: %s", p.name, l, w)
			}
			if l.scheme == "light" && (p.name != "many" || l.width == 360) {
				b.read(t, fmt.Sprintf("%s, %s", p.name, l), p.sight)
			}
			b.picture(t, p.name, l)
		}
	}
}

// TestChromiumSees: the measurement finds each kind of fault.
func TestChromiumSees(t *testing.T) {
	t.Parallel()
	b := browse(t)
	for want, body := range map[string]string{
		"wide: ":                              `<div style="width: 400px">x</div>`,
		"outside: ":                           `<div style="position: relative; left: -20px">x</div>`,
		"contrast: the text":                  `<p style="color: #888">x</p>`,
		"contrast: the line":                  `<p>x<svg><path class="now" d="M0 0h9" stroke="#ccc"/></svg></p>`,
		"covers: ":                            `<table style="table-layout: fixed; width: 100px"><tr><td>xxxxxxxxxxxxxxxxxxxxxxxxxxxxx<td>y</table>`,
		"clipped: ":                           `<p style="overflow: hidden; width: 50px; white-space: nowrap">a long text in a narrow place`,
		"small: ":                             `<p style="font-size: 9px">x</p>`,
		"empty: ":                             ``,
		"console: log":                        `<p>x<script>console.log('hello')</script>`,
		"exception: ":                         `<p>x<script>throw new Error('x')</script>`,
		"console: Failed":                     `<p>x<img src="/picture.png" alt="">`,
		"request: ":                           `<p>x<img src="/picture.png" alt="">`,
		"the server was asked for /font.woff": `<style>@font-face {font-family: f; src: url(/font.woff)} p {font-family: f}</style><p>x</p>`,
	} {
		page := `<!DOCTYPE html><meta name="viewport" content="width=device-width"><style>body {background: #fff; color: #000}</style><body>` + body
		if wrong := b.show(t, []byte(page), look{360, "light", "screen"}); !slices.ContainsFunc(wrong, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("%s: found only %q", body, wrong)
		}
	}
	if wrong := b.show(t, []byte(`<!DOCTYPE html><meta name="viewport" content="width=device-width"><p>x`), look{360, "light", "screen"}); len(wrong) > 0 {
		t.Errorf("a good page: %q", wrong)
	}
}
