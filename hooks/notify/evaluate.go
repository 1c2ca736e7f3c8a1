package notify

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/template/parse"
	"time"
)

// functions are those that a template can use.
func functions() map[string]any { return map[string]any{"json": 0, "join": 0, "eq": 0} }

// evaluator writes a template: the fields of a message, if, range, else, pipelines, json, join and eq. It takes the syntax of package
// text/template, but not its execution: a program that executes text/template keeps every exported method of every library, and mxcert would
// be 8 MB larger. Names are looked up in maps, so a template reaches nothing but the message.
type evaluator struct {
	out strings.Builder
}

// evaluate parses a template and writes it for a message. The error names the line.
func evaluate(text string, m Message) (string, error) {
	trees, err := parse.Parse("template", text, "", "", functions())
	if err != nil {
		return "", err
	}
	var e evaluator
	tree := trees["template"]
	if tree == nil || tree.Root == nil {
		return "", nil
	}
	if err := e.list(tree.Root, fieldsOf(m)); err != nil {
		return "", err
	}
	return e.out.String(), nil
}

// fieldsOf returns the fields of a message by the names that templates use.
func fieldsOf(m Message) map[string]any {
	matters := make([]any, len(m.Matters))
	for i, matter := range m.Matters {
		names := make([]any, len(matter.Certificates))
		for j, name := range matter.Certificates {
			names[j] = name
		}
		matters[i] = map[string]any{"ID": matter.ID, "Severity": matter.Severity, "Certificates": names, "Since": matter.Since.Format(time.RFC3339),
			"What": matter.What, "Senders": matter.Senders, "Next": matter.Next}
	}
	return map[string]any{"Version": m.Version, "Host": m.Host, "Event": string(m.Event), "Subject": m.Subject, "Text": m.Text, "At": m.At.Format(time.RFC3339), "Matters": matters, "More": m.More}
}

func (e *evaluator) list(list *parse.ListNode, dot any) error {
	if list == nil {
		return nil
	}
	for _, node := range list.Nodes {
		if err := e.node(node, dot); err != nil {
			return err
		}
		if e.out.Len() > mostBody {
			return fmt.Errorf("it writes more than %d KiB", mostBody>>10)
		}
	}
	return nil
}

func (e *evaluator) node(node parse.Node, dot any) error {
	switch n := node.(type) {
	case *parse.TextNode:
		e.out.Write(n.Text)
		return nil
	case *parse.CommentNode:
		return nil
	case *parse.ActionNode:
		v, err := e.pipe(n.Pipe, dot)
		if err == nil {
			e.out.WriteString(shown(v))
		}
		return err
	case *parse.IfNode:
		v, err := e.pipe(n.Pipe, dot)
		if err != nil {
			return err
		}
		if isSet(v) {
			return e.list(n.List, dot)
		}
		return e.list(n.ElseList, dot)
	case *parse.RangeNode:
		return e.each(n, dot)
	}
	return fmt.Errorf("line %d: mxcert's templates have no %s", lineOf(node), firstWord(node.String()))
}

func (e *evaluator) each(n *parse.RangeNode, dot any) error {
	v, err := e.pipe(n.Pipe, dot)
	if err != nil {
		return err
	}
	elements, ok := v.([]any)
	switch {
	case !ok:
		return fmt.Errorf("line %d: range needs a list, such as .Matters", n.Line)
	case len(elements) == 0:
		return e.list(n.ElseList, dot)
	}
	for _, element := range elements {
		if err := e.list(n.List, element); err != nil {
			return err
		}
	}
	return nil
}

// pipe evaluates commands, each with the value of the one before as its last argument.
func (e *evaluator) pipe(p *parse.PipeNode, dot any) (value any, err error) {
	if len(p.Decl) > 0 {
		return nil, fmt.Errorf("line %d: mxcert's templates have no variables", p.Line)
	}
	for i, command := range p.Cmds {
		var last []any
		if i > 0 {
			last = []any{value}
		}
		if value, err = e.command(command, dot, p.Line, last...); err != nil {
			return nil, err
		}
	}
	return value, nil
}

func (e *evaluator) command(c *parse.CommandNode, dot any, line int, last ...any) (any, error) {
	name, isCall := c.Args[0].(*parse.IdentifierNode)
	if !isCall {
		if len(c.Args)+len(last) > 1 {
			return nil, fmt.Errorf("line %d: %s is no function", line, c.Args[0])
		}
		return e.value(c.Args[0], dot, line)
	}
	var args []any
	for _, arg := range c.Args[1:] {
		v, err := e.value(arg, dot, line)
		if err != nil {
			return nil, err
		}
		args = append(args, v)
	}
	v, err := call(name.Ident, append(args, last...))
	if err != nil {
		return nil, fmt.Errorf("line %d: %v", line, err)
	}
	return v, nil
}

func (e *evaluator) value(node parse.Node, dot any, line int) (any, error) {
	switch n := node.(type) {
	case *parse.DotNode:
		return dot, nil
	case *parse.StringNode:
		return n.Text, nil
	case *parse.NumberNode:
		return int(n.Int64), nil
	case *parse.PipeNode:
		return e.pipe(n, dot)
	case *parse.FieldNode:
		v := dot
		for _, name := range n.Ident {
			fields, ok := v.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("line %d: %s: there is no field %s here", line, n, name)
			}
			if v, ok = fields[name]; !ok {
				return nil, fmt.Errorf("line %d: there is no field .%s here", line, name)
			}
		}
		return v, nil
	}
	return nil, fmt.Errorf("line %d: mxcert's templates have no %s", line, node)
}

// call calls a function.
func call(name string, args []any) (any, error) {
	switch {
	case name == "json" && len(args) == 1:
		text, err := json.Marshal(args[0])
		return string(text), err
	case name == "eq" && len(args) == 2:
		return shown(args[0]) == shown(args[1]), nil
	case name == "join" && len(args) == 2:
		list, isList := args[0].([]any)
		separator, isText := args[1].(string)
		if !isList || !isText {
			break
		}
		words := make([]string, len(list))
		for i, v := range list {
			words[i] = shown(v)
		}
		return strings.Join(words, separator), nil
	}
	return nil, fmt.Errorf(`%s is used as in {{json .Text}}, {{join .Certificates ", "}}, {{if eq .Event "alarm"}}`, name)
}

// isSet reports whether if takes a value for true: it is not empty.
func isSet(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case []any:
		return len(v) > 0
	case map[string]any:
		return true
	}
	return shown(v) != "" && shown(v) != "0"
}

// shown writes a value as text; a list or a matter as JSON.
func shown(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any, map[string]any:
		text, _ := json.Marshal(v) // it has only texts
		return string(text)
	}
	return fmt.Sprint(v)
}

func lineOf(node parse.Node) int {
	switch n := node.(type) {
	case *parse.WithNode:
		return n.Line
	case *parse.TemplateNode:
		return n.Line
	}
	return 1
}

func firstWord(text string) string {
	word, _, _ := strings.Cut(strings.Trim(text, "{} "), " ")
	return word
}
