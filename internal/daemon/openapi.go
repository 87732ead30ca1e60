package daemon

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"banger/internal/api"
)

// operation is what the API page says about one call.
type operation struct {
	method, path, doc string
	req, reply        reflect.Type // nil for calls that aren't JSON
	stream            bool         // the answer is a stream of api.Event
}

func (s *Server) document(op operation) { s.routes = append(s.routes, op) }

// object is a JSON object of the OpenAPI document; encoding/json sorts its keys.
type object = map[string]any

// OpenAPI returns the description of the API as an OpenAPI 3.1 document
// (https://spec.openapis.org/oas/v3.1.0), made from the registered routes and
// their Go types.
func (s *Server) OpenAPI() ([]byte, error) {
	schemas := make(schemaSet)
	paths := object{}
	for _, op := range s.routes {
		item, ok := paths[op.path].(object)
		if !ok {
			item = object{}
			paths[op.path] = item
		}
		item[strings.ToLower(op.method)] = op.describe(schemas)
	}
	failure := object{
		"description": "what failed, by code",
		"content":     object{"application/json": object{"schema": schemas.of(reflect.TypeFor[api.Error]())}},
	}
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title":       "bangerd",
			"version":     "1",
			"description": "Served on a unix socket. Every message carries the header " + api.VersionHeader + ".",
		},
		"paths":      paths,
		"components": object{"schemas": schemas, "responses": object{"Error": failure}},
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the API page: %w", err)
	}
	return append(data, '\n'), nil
}

func (op operation) describe(schemas schemaSet) object {
	success := object{"description": "success"}
	switch {
	case op.stream:
		success["description"] = "events, one per line; the result is a " + op.reply.Name()
		success["content"] = object{"application/x-ndjson": object{"schema": schemas.of(reflect.TypeFor[api.Event]())}}
		schemas.of(op.reply) // named in the description
	case op.reply != nil:
		success["content"] = object{"application/json": object{"schema": schemas.of(op.reply)}}
	}
	out := object{
		"summary": op.doc,
		"responses": object{
			"200":     success,
			"default": object{"$ref": "#/components/responses/Error"},
		},
	}
	if op.req != nil && op.req != reflect.TypeFor[api.None]() {
		out["requestBody"] = object{"content": object{"application/json": object{"schema": schemas.of(op.req)}}}
	}
	var params []object
	for _, m := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(op.path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	if params != nil {
		out["parameters"] = params
	}
	return out
}

// schemaSet holds the schemas of the named struct types seen so far.
type schemaSet map[string]any

// of returns the JSON schema of t as encoding/json writes it.
func (set schemaSet) of(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return object{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return set.of(t.Elem())
	case reflect.Struct:
		set.addStruct(t)
		return object{"$ref": "#/components/schemas/" + t.Name()}
	case reflect.Slice:
		return object{"type": "array", "items": set.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": set.of(t.Elem())}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	default: // the API's remaining types are integers
		return object{"type": "integer"}
	}
}

func (set schemaSet) addStruct(t reflect.Type) {
	if _, seen := set[t.Name()]; seen {
		return
	}
	properties := object{}
	set[t.Name()] = object{"type": "object", "properties": properties}
	set.addFields(properties, t)
}

// addFields adds the fields of a struct, and of those that it embeds.
func (set schemaSet) addFields(properties object, t reflect.Type) {
	for f := range t.Fields() {
		if f.Anonymous && f.Tag == "" {
			set.addFields(properties, f.Type)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			properties[name] = set.of(f.Type)
		}
	}
}
