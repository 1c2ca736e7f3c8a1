package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"mxcert/cmd/mxcert/internal/report"
)

// Question is one question to a person.
type Question struct {
	Text       string
	Suggestion string // taken if the answer is empty
	Secret     bool   // the answer must not be seen on a terminal
}

// Person answers questions.
type Person struct {
	// Ask puts one question and returns the answer as it was typed. An error means that there will be no more answers.
	Ask func(Question) (string, error)
	// Say shows a line: why an answer is refused, or what was found.
	Say func(format string, values ...any)
}

// attempts is how often a question is put before init gives up.
const attempts = 5

// asked is a question with rules for its answer.
type asked struct {
	Question
	optional bool   // no answer is an answer
	help     string // shown if the answer is ?
	check    func(answer string) error
}

// question puts a question until the answer can be used. After an error it returns "" and remembers the error; later questions are not put.
func (c *completion) question(q asked) string {
	if c.stopped != nil {
		return ""
	}
	reason := ""
	for range attempts {
		answer, err := c.person.Ask(q.Question)
		if errors.Is(err, context.Canceled) {
			c.stopped = fmt.Errorf("interrupted at the question %q, and nothing was written: %w", q.Text, err)
			return ""
		}
		if err != nil {
			c.stopped = &report.Exit{Code: report.CodeUsage, Err: fmt.Errorf("the input ended at the question %q (%w); nothing was written: answer all questions, or give the answers as flags with --yes (mxcert init --help)", q.Text, err)}
			return ""
		}
		if answer = strings.TrimSpace(answer); answer == "" {
			answer = q.Suggestion
		}
		switch {
		case answer == "?":
			reason = "? asks for help"
			c.person.Say("%s", cmp.Or(q.help, "there is no further help; man mxcert.yaml explains the settings"))
			continue
		case answer == "" && q.optional:
			return ""
		case answer == "":
			reason = "an answer is needed"
		default:
			if err = check(q, answer); err == nil {
				return answer
			}
			reason = said(err)
		}
		c.person.Say("%s", reason)
	}
	c.stopped = report.Usage("no usable answer to the question %q in %d attempts (the last one: %s); nothing was written", q.Text, attempts, reason)
	return ""
}

func check(q asked, answer string) error {
	if q.check == nil {
		return nil
	}
	return q.check(answer)
}

// said is an error and its hint, as one line.
func said(err error) string {
	text := report.OneLine(err.Error())
	if hint := report.HintOf(err); hint != "" && !strings.Contains(text, hint) {
		text += "; " + report.OneLine(hint)
	}
	return text
}

// agrees asks a question for yes or no.
func (c *completion) agrees(text, suggestion, help string) bool {
	return yes(c.question(asked{Question: Question{Text: text + " (yes/no)", Suggestion: suggestion}, help: help, check: yesOrNo}))
}

func yesOrNo(answer string) error {
	switch strings.ToLower(answer) {
	case "y", "yes", "n", "no":
		return nil
	}
	return errors.New("answer yes or no")
}

func yes(answer string) bool { return strings.HasPrefix(strings.ToLower(answer), "y") }

// Agrees asks a person for yes or no, after Complete.
func (p *Person) Agrees(text, suggestion string) (bool, error) {
	c := &completion{person: p}
	agreed := c.agrees(text, suggestion, "")
	return agreed, c.stopped
}
