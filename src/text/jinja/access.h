// Looking into values: attributes, subscripts, slices, iteration, length.
#pragma once

#include <optional>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace crible::jinja {

// `value.name`: a method or property of the type first, then a key of that name. What is not there
// is undefined; looking into undefined fails (TemplateError).
Value get_attribute(Runtime& runtime, const Value& value, const Text& name);
// `value[key]`: an element first, then an attribute of that name.
Value get_item(Runtime& runtime, const Value& value, const Value& key);
Value get_slice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
                const Value& step);

// "a.b.0" applied to a value, part by part; an integer key is one part.
Value get_path(Runtime& runtime, const Value& value, const Value& path);

// The elements of anything that can be iterated: characters of text, keys of a dict, nothing for
// undefined. Uses up an iterator. Fails (TemplateError) for the rest.
SequencePtr iterate(Runtime& runtime, const Value& value);
bool is_iterable(const Value& value);
// nullopt when the type has no length.
std::optional<int64_t> length_of(Runtime& runtime, const Value& value);

}  // namespace crible::jinja
